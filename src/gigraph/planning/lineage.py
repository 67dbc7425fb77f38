"""What a result was made from: digests of settings, files and code, and the record of a run.

Whether a result that lies there is the one that is planned is decided here (`current`).
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gigraph.hashing import digest

PACKAGE = Path(__file__).parents[1]
PLUMBING = frozenset({"cli", "errors", "orphans", "planning", "reporting", "running", "version"})
"""Modules that decide how work is started, not what comes out of it: editing them reruns nothing."""

PACKAGES = (
    "gigraph", "torch", "torchvision", "numpy", "numba", "cupy-cuda13x", "scikit-learn", "pyarrow", "polars", "pillow",
    "safetensors", "snakemake", "timm",
)  # fmt: skip


@cache
def code_digest(script: Path) -> str:
    """Return the hash of a script and of every gigraph module that it imports, directly or not, but `PLUMBING`.

    The hash is over syntax trees without docstrings: comments, layout and docstrings do not change it.
    """
    seen: dict[Path, str] = {}
    queue = [script]
    while queue:
        path = queue.pop()
        if path not in seen:
            seen[path], names = _syntax(path.read_text())
            queue.extend(_own_modules(names))
    return digest(sorted((path.name, syntax) for path, syntax in seen.items()))


def modules_digest(names: Iterable[str]) -> str:
    """Return the hash of gigraph modules that are loaded by their names, and of every one that they import."""
    return digest([code_digest(file) for file in _own_modules(names)])


@cache
def _syntax(text: str) -> tuple[str, frozenset[str]]:
    """Return the hash of a module's syntax tree and the names that it imports; scripts share most of their modules."""
    tree = ast.parse(text)
    names = _names(tree)
    return digest(ast.dump(_without_docstrings(tree))), frozenset(names)


def imported_beside(file: Path) -> list[Path]:
    """Return a user's module and the modules beside it that it imports, directly or not."""
    seen: list[Path] = []
    queue = [file]
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.append(path)
        try:
            tree = ast.parse(path.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue  # what loads the module says it better
        stems = [path.parent.joinpath(*name.split(".")) for name in sorted(_names(tree))]
        queue += [one for stem in stems for one in (stem.with_suffix(".py"), stem / "__init__.py") if one.is_file()]
    return seen


def module_file(source: str) -> list[Path]:
    """Return the file of the module in a ``package.module:factory``; none for other sources, or if there is none."""
    name, colon, factory = source.rpartition(":")
    if not colon or not factory.isidentifier() or name in ("torchvision", "timm") or name.endswith(".py"):
        return []
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    return [Path(spec.origin)] if spec and spec.origin and Path(spec.origin).is_file() else []


def _names(tree: ast.Module) -> set[str]:
    """Return the dotted names of all modules, or of what may be one, that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names)
            names.update([node.module] if node.module else [])
    return names


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                statement
                for statement in node.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]
    return tree


def _own_modules(names: Iterable[str]) -> list[Path]:
    """Return the files of the gigraph modules among imported names, but `PLUMBING`."""
    files = []
    for name in names:
        package, *parts = name.split(".")
        if package == "gigraph" and not (parts and parts[0] in PLUMBING):
            stem = PACKAGE.joinpath(*parts)
            files += [file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()]
    return files


# ---- whether what lies there is what is planned --------------------------------------------------------------

ENDS = {
    ".svg": b"</svg>",
    ".html": b"</html>",
    ".graphml": b"</graphml>",
    ".png": b"IEND\xaeB`\x82",
}
"""How a file of this kind ends if nothing is missing."""


def current(lineages: Mapping[str, str], receipt: Path) -> bool:
    """Whether a job's outputs are there, whole, and made from what is planned.

    Parameters
    ----------
    lineages : mapping of str to str
        The planned lineage of each output.
    receipt : Path
        What the job's script wrote at its end (`gigraph.running.runtime.run`). It speaks for the outputs that are no
        tables; a table carries its own lineage.
    """
    from gigraph.records.tables import lineage_of

    others = [path for path in lineages if not path.endswith(".parquet")]
    if others:
        written = read_receipt(receipt).get("lineage")
        if any(written != lineages[path] or not whole(Path(path)) for path in others):
            return False
    return all(lineage_of(path) == lineage for path, lineage in lineages.items() if path.endswith(".parquet"))


def whole(path: Path) -> bool:
    """Whether a file is there and has its end, or a folder is there and each of its files has."""
    if path.is_dir():
        # Hidden files are Snakemake's own marks.
        files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
        return bool(files) and all(map(whole, files)) and _complete(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            if path.suffix in (".webp", ".safetensors"):
                head = stream.read(8)
                # RIFF's length counts what follows it; that of safetensors is the header's, tensors come after.
                if path.suffix == ".webp":
                    return len(head) == 8 and size == int.from_bytes(head[4:], "little") + 8
                header = stream.read(int.from_bytes(head, "little"))
                spans = [v["data_offsets"][1] for k, v in json.loads(header).items() if k != "__metadata__"]
                return size == 8 + len(header) + max(spans, default=0)
            stream.seek(max(0, size - 64))
            return size > 0 and ENDS.get(path.suffix, b"") in stream.read()
    except (OSError, ValueError):
        return False


def _complete(folder: Path) -> bool:
    """Whether a drawn folder holds a picture for each of its scenes."""
    factors = folder / "factors.parquet"
    if not factors.is_file():
        return True
    import pyarrow.parquet as pq

    return pq.read_metadata(factors).num_rows == sum(1 for _ in folder.glob("*/*.png"))


def shown_evaluation(site: Path) -> str:
    """Return the lineage of the evaluation that an explorer shows; nothing if it shows none."""
    try:
        found = re.search(r'"evaluation":"(\w+)"', (site / "data" / "meta.js").read_text(errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def write_plan(path: Path, lineages: Mapping[str, str]) -> None:
    """Write the lineage of every file of a run, for the jobs to compare with what they read and write."""
    from gigraph.records.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(lineages))


def release_stale_locks(folder: Path, root: Path) -> bool:
    """Remove the locks that a killed Snakemake left on a results folder.

    Every Snakemake that runs this workflow in the same working directory shares a lock which the kernel frees at
    its end, so whoever gets it alone knows that no other one lives. Locks on other folders stay.

    Parameters
    ----------
    folder : Path
        Snakemake's own folder, ``.snakemake``.
    root : Path
        The results folder.

    Returns
    -------
    bool
        Whether this process is the only one.
    """
    folder.mkdir(exist_ok=True)
    # Open until the process ends.
    handle = os.open(folder / "gigraph.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        alone = False
    else:
        alone = True
        for lock in (folder / "locks").glob("*.lock"):
            files = [Path(line) for line in lock.read_text().splitlines() if line]
            if any(file.is_relative_to(root) for file in files):
                lock.unlink(missing_ok=True)
    # Waits only as long as another one takes to do the same.
    fcntl.flock(handle, fcntl.LOCK_SH)
    return alone


# ---- the record of a run -------------------------------------------------------------------------------------


def write_receipt(path: Path, **numbers: Any) -> None:
    """Write what a job did, in numbers, beside its log."""
    from gigraph.records.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n")


def read_receipt(path: Path) -> dict[str, Any]:
    """Return what a job wrote at its end; nothing if it did not come to that."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def receipts(logs: Path) -> dict[str, dict[str, Any]]:
    """Return the receipts below a folder of logs by their names."""
    found = {str(path.relative_to(logs).with_suffix("")): read_receipt(path) for path in sorted(logs.rglob("*.json"))}
    return {name: receipt for name, receipt in found.items() if "stage" in receipt}


def machine() -> dict[str, Any]:
    """Return what this machine is, as far as it says so without loading anything."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "gpus": [
            line.partition(":")[2].strip()
            for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
            for line in path.read_text().splitlines()
            if line.startswith("Model:")
        ],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions() -> dict[str, str]:
    """Return the versions of Python, gigraph, and the packages that its results rest on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def write_run(root: Path, config: Mapping[str, Any], seeds: Mapping[str, Any]) -> None:
    """Write ``run.json``: what a paper's appendix says about how its numbers were made.

    Parameters
    ----------
    root : Path
        The results folder.
    config : mapping
        The whole configuration, defaults included.
    seeds : mapping
        Every seed that it holds.
    """
    from gigraph.records.files import replacing

    jobs = receipts(root / "logs")
    stages: dict[str, dict[str, float]] = {}
    for job in jobs.values():
        stage = stages.setdefault(job["stage"], {"jobs": 0, "seconds": 0.0, "peak_memory_mb": 0.0})
        stage["jobs"] += 1
        stage["seconds"] = round(stage["seconds"] + job["seconds"], 2)
        stage["peak_memory_mb"] = max(stage["peak_memory_mb"], job["peak_memory_mb"])
    text = {
        "versions": versions(),
        "commit": _commit(),
        "config": config,
        "seeds": seeds,
        "machine": machine(),
        "hosts": sorted({job["host"] for job in jobs.values()}),
        "started": min((job["started"] for job in jobs.values()), default=None),
        "ended": max((job["ended"] for job in jobs.values()), default=None),
        "seconds_of_work": round(sum(job["seconds"] for job in jobs.values()), 1),
        "stages": stages,
        "jobs": jobs,
    }
    with replacing(root / "run.json") as temporary:
        temporary.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n")


def _commit() -> str | None:
    """Return the commit of the working tree that gigraph runs from, with a plus where it has changes."""
    git = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
