"""Python imports this at its start where this folder is on its path: at its end each job says what it loaded and read.

Parquet files are opened in Arrow's and polars' own code, which no audit hook of Python's sees: their doors are watched
as soon as they are imported.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

_end = os._exit
_files = set()


def _opened(path):
    if isinstance(path, str | os.PathLike):
        _files.add(os.path.abspath(path))  # noqa: PTH100 (pathlib may not be there yet)


def _audit(event, arguments):
    if event == "open" and not set("wax+") & set(arguments[1] or "w"):
        _opened(arguments[0])


def _watched(function):
    def call(*arguments, **more):
        for path in arguments[:2]:  # a method's first is its object
            for one in path if isinstance(path, list | tuple) else [path]:
                _opened(one)
        return function(*arguments, **more)

    return call


def _watch_arrow(module):
    module.ParquetFile.__init__ = _watched(module.ParquetFile.__init__)


def _watch_polars(module):
    for name in ("read_parquet", "scan_parquet"):
        setattr(module, name, _watched(getattr(module, name)))


class _Watch:
    """Finds the two packages as usual, and watches them once they are loaded."""

    def __init__(self):
        self.doors = {"pyarrow.parquet": _watch_arrow, "polars": _watch_polars}

    def find_spec(self, name, path=None, target=None):
        if name not in self.doors:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.doors[name](module)

        spec.loader.exec_module = exec_module
        return spec


def _traced(status):
    """Write what this process did, under its script's name, and end."""
    lineage = sys.argv[sys.argv.index("--lineage") + 1] if "--lineage" in sys.argv else ""
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "gigraph")
    file = Path(os.environ["GIGRAPH_TRACE"]) / f"{Path(sys.argv[0]).stem}.{os.getpid()}"
    file.write_text(json.dumps({"lineage": lineage, "modules": loaded, "files": sorted(_files)}))
    _end(status)


if "GIGRAPH_TRACE" in os.environ:
    os._exit = _traced
    sys.addaudithook(_audit)
    sys.meta_path.insert(0, _Watch())
