"""Each process of the tests has one thread: there are as many processes as cores.

Two processes whose libraries take two threads each wait for each other at every small product; some tests took a
hundred times as long. A test that is about threads sets its own number.

What is drawn at random is the same in every run, whichever tests ran before in the same process.
"""

import os
import sys

import hypothesis
import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.load_profile("fixed")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


pytest_runtest_call = pytest_runtest_setup  # a module's first test also makes what the others share
