"""What makes a model again in another process: a name, or a file with the source that it is made of.

The jobs of a run are processes of their own, so a function that lies in a notebook has to reach them. A name does where
the function can be imported. Else its source is written out, with that of what it uses: functions and classes of the
same session, imports, constants. What cannot be written so (an array, an open file) is refused by name.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import linecache
import symtable
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import dtype, nn

from gigraph.errors import UserError
from gigraph.hashing import file_digest
from gigraph.planning.lineage import PACKAGE, imported_beside

KEY = "model_factory"
SESSION = "__main__"
"""The module of what is defined in a notebook, or in the script that runs."""
HEAD = '"""Made by gigraph.build: what makes the model, from the session that it was defined in."""'


@dataclass(frozen=True)
class Factory:
    """What makes a model again.

    Attributes
    ----------
    call : callable
        The function or class.
    source : str or None
        The configuration's ``model.source``; None if `text` has to be written to a file first.
    name : str
        Of the function in its file or module.
    arguments : dict
        The configuration's ``model.arguments``.
    text : str
        The file's.
    """

    call: Callable[..., Any]
    source: str | None
    name: str
    arguments: dict[str, Any]
    text: str = ""


def factory_of(given: Callable[..., Any], folder: Path | None = None) -> Factory:
    """Return what makes a function's or a class's model in another process.

    Parameters
    ----------
    given : callable
        A function or a class, or a `functools.partial` of one with keyword arguments.
    folder : Path, optional
        The working folder, from which paths start.

    Raises
    ------
    UserError
        If it is something else, lies within a function, has no source, or uses what only this session has.
    """
    call: Any = given
    arguments: dict[str, Any] = {}
    while isinstance(call, functools.partial):
        if call.args:
            raise UserError(f"{KEY}: give the arguments of partial by name: {_called(call.func)} has some by position")
        call, arguments = call.func, {**call.keywords, **arguments}
    if not isinstance(call, type | types.FunctionType):
        raise UserError(
            f"{KEY}: a {type(call).__name__} is neither a module nor a function; give the function or class that makes "
            "the model, a module, or its source as in a configuration (torchvision:resnet18, file.py:function)"
        )
    name = call.__qualname__
    if not name.isidentifier():
        what = "is a lambda" if "<lambda>" in name else "lies within a function or a class"
        raise UserError(f"{KEY}: {name} {what}, where no other process finds it; write it as a def of its own")
    module = sys.modules.get(call.__module__)
    file = Path(getattr(module, "__file__", None) or "")
    there: Any = getattr(module, name, None)
    if file.suffix == ".py" and call is there:
        if call.__module__ != SESSION and _installed(file):
            return Factory(call, f"{call.__module__}:{name}", name, arguments)
        if "." not in call.__module__ and file.name != "__init__.py":
            return Factory(call, f"{_below(file, folder or Path.cwd())}:{name}", name, arguments)
    written = _Written(name)
    written.take(name, call)
    return Factory(call, None, name, arguments, written.text())


class _Written:
    """The file that is written: what a function is made of, in an order in which it can be read."""

    def __init__(self, factory: str):
        self.factory = factory
        self.imports: set[str] = set()
        self.files: dict[str, Path] = {}
        self.parts: dict[str, str] = {}
        self.known: dict[str, Any] = {}

    def text(self) -> str:
        """Return the text, which holds the digests of the user's modules: it changes if they do."""
        # Not as it was when this process looked first: a session goes on.
        rests = [f"# {name}: {file_digest.__wrapped__(path)}" for name, path in sorted(self.files.items())]
        return "\n".join(
            [
                HEAD,
                "",
                "from __future__ import annotations",
                "",
                *sorted(self.imports),
                *rests,
                "",
                *self.parts.values(),
            ]
        )

    def take(self, name: str, value: Any) -> None:
        """Take what a name means, and before it all that this needs.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        if name in self.known:
            if self.known[name] is not value:
                raise UserError(f"{KEY}: {name} means two things in what {self.factory} is made of; rename one")
            return
        self.known[name] = value
        if isinstance(value, types.ModuleType):
            home, _, last = value.__name__.rpartition(".")
            lead = f"from {home} " if home else ""
            self._import(value.__name__, f"{lead}import {_as(last, name)}")
        elif isinstance(value, type | types.FunctionType) and value.__module__ == SESSION:
            self._define(name, value)
        elif own := _importable_name(name, value):
            self._import(value.__module__, f"from {value.__module__} import {_as(own, name)}")
        elif isinstance(value, dtype):
            self.take("torch", sys.modules["torch"])
            self.parts[name] = f"{name} = {value!r}"
        elif _is_literal(value):
            self.parts[name] = f"{name} = {value!r}"
        else:
            remedy = f"make it within {self.factory}, or put both into a file and import that"
            if isinstance(value, nn.Module):
                remedy = f"give it as weights={name}, and let the function make a new one"
            raise UserError(
                f"{KEY}: {self.factory} uses {name}, a {type(value).__name__} that lies in this session only; {remedy}"
            )

    def _define(self, name: str, value: Any) -> None:
        node, names = definition(value)
        if node.name != name:
            raise UserError(f"{KEY}: {name} is another name of {node.name}; use one in what makes the model")
        for used in _globals(node):
            if used in names:
                self.take(used, names[used])
            elif not hasattr(builtins, used):
                raise UserError(f"{KEY}: {name} uses {used}, which is not defined in this session")
        self.parts[name] = f"\n{ast.unparse(node)}\n"

    def _import(self, module: str, statement: str) -> None:
        self.imports.add(statement)
        top = module.partition(".")[0]
        home = getattr(sys.modules.get(top), "__file__", None)
        if home and _installed(Path(home)):
            return
        for name, one in list(sys.modules.items()):
            file = Path(getattr(one, "__file__", None) or "")
            if name.partition(".")[0] == top and file.suffix == ".py" and file.is_file() and not _installed(file):
                self.files |= {beside.name: beside for beside in imported_beside(file) if beside != file}
                self.files[name] = file


def definition(value: Any) -> tuple[ast.FunctionDef | ast.ClassDef, dict[str, Any]]:
    """Return the syntax of a function or class of this session, and what names mean there.

    Python keeps the source of a notebook's cell under the name that its code carries; so it is that of this very
    function, whatever the cell holds now.

    Raises
    ------
    UserError
        If there is no source.
    """
    if isinstance(value, type):
        inside = [inspect.unwrap(getattr(one, "__func__", one)) for one in vars(value).values()]
        codes = [one for one in inside if isinstance(one, types.FunctionType)]
        codes = [one for one in codes if one.__qualname__.startswith(f"{value.__qualname__}.")]
    else:
        codes = [one for one in [inspect.unwrap(value)] if isinstance(one, types.FunctionType)]
    for one in codes:
        lines = linecache.getlines(one.__code__.co_filename)
        try:
            tree = ast.parse("".join(lines))
        except SyntaxError:
            continue
        first = one.__code__.co_firstlineno
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == value.__name__:
                start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if start <= first <= (node.end_lineno or start):
                    return node, one.__globals__
    raise UserError(
        f"{KEY}: the source of {value.__name__} is not to be found; write it to a file, and import it from there"
    )


def _globals(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Return the names that a definition takes from around it, but for those in a function's annotations."""
    tree = ast.parse(ast.unparse(node))
    for one in ast.walk(tree):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            one.returns = None
        elif isinstance(one, ast.arg):
            one.annotation = None
    found: set[str] = set()
    top = symtable.symtable(ast.unparse(tree), node.name, "exec")
    for scope in _scopes(top):
        for symbol in scope.get_symbols():
            if symbol.is_referenced() and (scope is top or symbol.is_global()):
                found.add(symbol.get_name())
    return sorted(name for name in found - {node.name} if not name.startswith("__"))


def _scopes(scope: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield scope
    for child in scope.get_children():
        yield from _scopes(child)


def _importable_name(name: str, value: Any) -> str | None:
    """Return what a value is called in its module; None if it cannot be imported from there."""
    home = getattr(value, "__module__", None)
    if not isinstance(home, str) or home == SESSION:
        return None
    for own in (getattr(value, "__qualname__", ""), getattr(value, "__name__", ""), name):
        if isinstance(own, str) and own.isidentifier() and getattr(sys.modules.get(home), own, None) is value:
            return own
    return None


def _is_literal(value: Any) -> bool:
    """Return whether a value is one of plain numbers and texts, as its own representation says."""
    try:
        return bool(type(found := ast.literal_eval(repr(value))) is type(value) and found == value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def _installed(file: Path) -> bool:
    """Return whether a file belongs to an installed package, or to Python."""
    homes = [PACKAGE, *(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib", "platstdlib"))]
    return any(file.resolve().is_relative_to(home.resolve()) for home in homes)


def _below(file: Path, folder: Path) -> str:
    """Return a path from a folder where it lies there, else the whole of it."""
    file = file.resolve()
    return str(file.relative_to(folder.resolve()) if file.is_relative_to(folder.resolve()) else file)


def _as(own: str, name: str) -> str:
    return own if own == name else f"{own} as {name}"


def _called(value: Any) -> str:
    return str(getattr(value, "__qualname__", type(value).__name__))
