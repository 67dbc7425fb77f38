"""Python imports this at its start where this folder is on its path: at its end each job says what it loaded."""

import os
import sys
from pathlib import Path

_end = os._exit


def _traced(status):
    """Write the modules of gigraph that this process loaded, under its script's name, and end."""
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "gigraph")
    file = Path(os.environ["GIGRAPH_TRACE"]) / f"{Path(sys.argv[0]).stem}.{os.getpid()}"
    file.write_text("\n".join(loaded))
    _end(status)


if "GIGRAPH_TRACE" in os.environ:
    os._exit = _traced
