"""What classes are called where people read and say it; tables, addresses and exports keep their own names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from gigraph.errors import UserError, nearest

CODE = re.compile(r"([^\W\d_]*)(\d{2,})(?:[\s._-]+(?=\S)|$)")
"""A class's code before its name, such as the WordNet id of ``n01440764_tench`` or ``001.Black_footed_Albatross``; or
alone."""


def shown_names(names: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """Return what each class is called on the page.

    Parameters
    ----------
    names : sequence of str
        The classes' names.
    given : mapping of str to str
        Names to what is shown instead (``explorer.names``).

    Returns
    -------
    list of str
        In the order of `names`: what was given; else the name with spaces for underscores, and, if all names have a
        code of one form before them, without it. Where two would become one, both stay whole.

    Raises
    ------
    UserError
        If something is given for a name that no class has.
    """
    known = set(names)
    for name in given:
        if name not in known:
            raise UserError(f"explorer.names: there is no class {name!r}{nearest(name, names)}")
    spaced = _where_unique(names, [name.replace("_", " ").strip(" ") for name in names])
    codes = [CODE.match(name) for name in names]
    if len({code and (code[1], len(code[2])) for code in codes}) == 1 and all(codes):
        rest = [
            name[code.end() :].replace("_", " ").strip(" ") for name, code in zip(names, codes, strict=True) if code
        ]
        spaced = _where_unique(spaced, rest)
    return [given.get(name, short) for name, short in zip(names, spaced, strict=True)]


def find_class(name: str, names: Sequence[str], given: Mapping[str, str] | None = None) -> int | None:
    """Return which class somebody means: by its name, or else by what it is called on the page.

    Parameters
    ----------
    name : str
        As somebody says it.
    names : sequence of str
        The classes' names.
    given : mapping of str to str, optional
        As for `shown_names`.

    Returns
    -------
    int or None
        Its place in `names`; None if no class, or more than one, is called so.
    """
    if name in names:
        return list(names).index(name)
    called = [i for i, one in enumerate(shown_names(names, given or {})) if one == name]
    return called[0] if len(called) == 1 else None


def _where_unique(names: Sequence[str], shorter: Sequence[str]) -> list[str]:
    """Return the shorter names that are no other's name, and the names elsewhere."""
    count = Counter(shorter)
    taken = set(names)
    return [
        short if short and count[short] == 1 and (short == name or short not in taken) else name
        for name, short in zip(names, shorter, strict=True)
    ]
