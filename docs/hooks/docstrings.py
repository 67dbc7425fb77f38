"""What docstrings look like on their page: the tables and formulas that they draw in plain text keep their columns."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

EQUATION = re.compile(r"\[(Eqs?\. (\d+)[^\]]*)\](?!\()")
NAME = re.compile(r"(?<!`)`(gigraph(?:\.\w+)+)`(?!`)")
COLUMNS = re.compile(r"\S {3,}\S")
"""Three spaces within a line: something is drawn in columns there."""


def as_markdown(text: str) -> str:
    """Return a docstring with what is drawn in it, and the literal blocks of reStructuredText, as blocks of text.

    A paragraph is drawn where its lines have columns, or where it is indented after a line that ends in ``::``.
    """
    parts: list[str] = []
    literal = False
    for part in re.split(r"\n{2,}", text):
        lines = part.split("\n")
        indented = all(line.startswith("    ") for line in lines)
        # What stands above a table, its heading, is none of its columns.
        head = 2 if len(lines) > 2 and set(lines[1]) == {"-"} else 0
        drawn = sum(bool(COLUMNS.search(line)) for line in lines[head:]) * 2 > len(lines[head:])
        if (indented and literal) or (drawn and "Parameters" not in lines[0]):
            block = textwrap.dedent("\n".join(lines[head:]))
            parts.append("\n".join([*lines[:head], "", "```text", block, "```"]).strip("\n"))
            continue
        literal = lines[-1].endswith("::")
        parts.append(_linked(part[:-1] if literal else part))
    return "\n\n".join(parts).replace("```\n\n```text\n", "\n")


def _linked(text: str) -> str:
    """Link equations to the page of the method, and names to their own page where they have one."""
    text = EQUATION.sub(r'<autoref identifier="eq-\2" optional>&#91;\1&#93;</autoref>', text)
    return NAME.sub(r'<autoref identifier="\1" optional><code>\1</code></autoref>', text)


class Drawn(griffe.Extension):
    """Rewrites the docstrings of what is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
