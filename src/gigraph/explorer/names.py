"""What classes are called on the page; tables, addresses and exports keep their own names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gigraph.errors import UserError, nearest

CODE = re.compile(r"([^\W\d_]*)(\d{2,})[\s._-]+(?=\S)")
"""A class's code before its name, such as the WordNet id of ``n01440764_tench`` or ``001.Black_footed_Albatross``."""


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
        In the order of `names`: what was given; else the name with spaces for underscores, and without the code before
        it if all names have one of the same form. Where two names would become one, all stay as they are.

    Raises
    ------
    UserError
        If something is given for a name that no class has.
    """
    for name in given:
        if name not in names:
            raise UserError(f"explorer.names: there is no class {name!r}{nearest(name, names)}")
    shown = list(names)
    for change in (_without_code, lambda some: [name.replace("_", " ").strip() or name for name in some]):
        changed = change(shown)
        shown = changed if len(set(changed)) == len(set(names)) else shown
    return [given.get(name, short) for name, short in zip(names, shown, strict=True)]


def _without_code(names: Sequence[str]) -> list[str]:
    codes = [CODE.match(name) for name in names]
    forms = {(code[1], len(code[2])) if code else None for code in codes}
    if None in forms or len(forms) != 1:
        return list(names)
    return [name[code.end() :] for name, code in zip(names, codes, strict=True) if code]
