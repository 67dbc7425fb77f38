"""Of which code a result is made: digests of the modules that a stage's process loads.

A stage's script names its modules by `import` statements, and so do they theirs: that closure is followed here. What a
setting chooses (an extractor, an attribution method, the drawn world) is loaded by name instead, so that it is in no
closure; the stages that use it declare it (`gigraph.planning.stages.stage.Stage.code`).
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from gigraph.hashing import digest

PACKAGE = Path(__file__).parents[1]
APART = {
    "attributors/registry": "names; a stage's lineage holds the modules that it uses",
    "api": "read by people after a run",
    "cli": "starts commands",
    "commands": "are no stages",
    "errors": "says what is wrong, and nothing comes out then",
    "extractors/registry": "the same",
    "orphans": "ends processes",
    "planning": "decides what is made, by settings and inputs that have lineages of their own",
    "reporting": "writes the log",
    "running": "starts, leases and records",
    "records/paths": "where files lie; Snakemake looks for them there",
    "records/schemas": "each stage's lineage holds the schemas of what it writes",
    "worlds/registry": "names; a stage's lineage holds the world that it uses",
    "version": "stands in a table's metadata, beside the lineage",
}
"""Rooms and modules of which no result is made, and why: editing them reruns nothing. The package's face is another."""


@cache
def code_digest(*files: Path) -> str:
    """Return the hash of files and of every gigraph module that they import, directly or not, but those `APART`.

    The hash is over syntax trees without docstrings: comments, layout and docstrings do not change it.
    """
    return digest(sorted((path.name, _syntax(path.read_text())[0]) for path in closure(*files)))


def closure(*files: Path) -> list[Path]:
    """Return files and every gigraph module that they import, wherever in them, directly or not, but those `APART`."""
    seen: dict[Path, None] = {}
    queue = list(files)
    while queue:
        path = queue.pop()
        if path not in seen:
            seen[path] = None
            queue.extend(_own_modules(_syntax(path.read_text())[1]))
    return list(seen)


@cache
def _syntax(text: str) -> tuple[str, frozenset[str]]:
    """Return the hash of a module's syntax tree and the names that it imports; scripts share most of their modules."""
    tree = ast.parse(text)
    statements = list(_executed(tree))
    for one in statements:
        if isinstance(one, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            one.body = [
                statement
                for statement in one.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]
    return digest(ast.dump(tree)), frozenset(_names(statements))


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
        stems = [path.parent.joinpath(*name.split(".")) for name in sorted(_names(ast.walk(tree)))]
        queue += [one for stem in stems for one in (stem.with_suffix(".py"), stem / "__init__.py") if one.is_file()]
    return seen


def module_files(names: Iterable[str]) -> list[Path]:
    """Return the files of gigraph modules that are loaded by their names."""
    return [PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in names]


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


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


def _executed(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield a module and its statements, wherever they stand, but for what only type checkers read."""
    queue: list[ast.AST] = [tree]
    while queue:
        node = queue.pop()
        yield node
        typing_only = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for name in ("orelse",) if typing_only else ("body", "orelse", "finalbody", "handlers", "cases"):
            queue += getattr(node, name, ())


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the dotted names of all modules, or of what may be one, that nodes import."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names)
            names.update([node.module] if node.module else [])
    return names


@cache
def _own_modules(names: frozenset[str]) -> tuple[Path, ...]:
    """Return the files of the gigraph modules among imported names, and of the packages that they lie in."""
    files = []
    for name in names:
        package, *parts = name.split(".")
        if package != "gigraph" or any("/".join(parts[:end]) in APART for end in range(1, len(parts) + 1)):
            continue
        for end in range(1, len(parts) + 1):
            stem = PACKAGE.joinpath(*parts[:end])
            files += [file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()]
    return tuple(files)
