"""A job's `python`, where it is not forked: an interruption ends it without a traceback while it still imports.

python launched.py SCRIPT ARGUMENTS...

`gigraph.running.runtime.run` takes interruptions from there on.
"""

import os
import runpy
import signal
import sys

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a run in the background ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    del sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 (pathlib takes long to import)
    runpy.run_path(sys.argv[0], run_name="__main__")
