"""Each process of the tests has one thread: there are as many processes as cores.

Two processes whose libraries take two threads each wait for each other at every small product; some tests took a
hundred times as long. A test that is about threads sets its own number.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
