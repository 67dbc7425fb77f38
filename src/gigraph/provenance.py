"""What a result was made from: digests of settings, files and the code that a script uses."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent


def digest(*parts: Any) -> str:
    """Return a 16-digit hash of JSON-serialisable parts; equal numbers (100 and 100.0) hash equally."""
    text = json.dumps(_plain(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@cache
def file_digest(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


@cache
def code_digest(script: Path) -> str:
    """Return the hash of a script and of every gigraph module that it imports, directly or not.

    The hash is over syntax trees without docstrings: comments, layout and docstrings do not change it.
    """
    seen: dict[Path, str] = {}
    queue = [script]
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        tree = ast.parse(path.read_text())
        seen[path] = ast.dump(_without_docstrings(tree))
        queue.extend(_imports(tree, path))
    return digest(sorted((path.name, text) for path, text in seen.items()))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                statement
                for statement in node.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]
    return tree


def _imports(tree: ast.Module, path: Path) -> list[Path]:
    """Return the files of the gigraph modules that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    files = []
    for name in sorted(names):
        if name == "gigraph" or name.startswith("gigraph."):
            stem = PACKAGE.joinpath(*name.split(".")[1:])
            files += [file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()]
    return [file for file in files if file != path]
