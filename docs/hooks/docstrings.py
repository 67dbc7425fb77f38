"""What docstrings look like on their page: the tables and formulas that they draw in plain text keep their columns."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

EQUATION = re.compile(r"\[(Eqs?\. (\d+)[^\]]*)\](?!\()")
NAME = re.compile(r"(?<!`)`(?!gigraph\.yaml`)(gigraph(?:\.\w+)+)`(?!`)")
CODE = re.compile(r"(`+[^`]+`+)")
COLUMNS = re.compile(r"\S {3,}\S")
"""Three spaces within a line: something is drawn in columns there."""
SECTIONS = frozenset(
    {"Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "References", "Examples", "See Also"}
)
"""What numpydoc knows; other headings are only words in bold."""


def as_markdown(text: str) -> str:
    """Return a docstring with what is drawn in it, and the literal blocks of reStructuredText, as blocks of text.

    A paragraph is drawn where its lines have columns, or where it is indented after a line that ends in ``::``.
    """
    parts: list[str] = []
    literal = False
    for part in re.split(r"\n{2,}", text):
        lines = part.split("\n")
        if len(lines) > 2 and set(lines[1]) == {"-"} and lines[0] not in SECTIONS:
            parts.append(f"**{lines[0]}**")
            lines = lines[2:]
        indented = all(line.startswith("    ") for line in lines)
        drawn = sum(bool(COLUMNS.search(line)) for line in lines) * 2 > len(lines) and set(lines[-1]) != {"-"}
        if (indented and literal) or drawn:
            parts.append(f"```text\n{_drawn(lines)}\n```")
            continue
        literal = lines[-1].endswith("::")
        parts.append(_prose("\n".join(lines).removesuffix(":") if literal else "\n".join(lines)))
    return "\n\n".join(parts).replace("\n```\n\n```text\n", "\n\n")


def _drawn(lines: list[str]) -> str:
    """Return what is drawn, names without their marks, and equations' numbers near what they number."""
    text = re.sub(r"``([^`]+)``", r"\1    ", textwrap.dedent("\n".join(lines)))
    return re.sub(r" {5,}(?=\[Eq)", "    ", text)


def _prose(text: str) -> str:
    """Keep < and ** as they are, link equations to the page of the method, and names to their page if they have one."""
    parts = CODE.split(text)
    for i in range(0, len(parts), 2):
        said = re.sub(r"(?<=\w)\*\*(?=[-\w(])", r"\\*\\*", parts[i].replace("<", "&lt;"))
        parts[i] = EQUATION.sub(r'<autoref identifier="eq-\2" optional>&#91;\1&#93;</autoref>', said)
    return NAME.sub(r'<autoref identifier="\1" optional><code>\1</code></autoref>', "".join(parts))


class Drawn(griffe.Extension):
    """Rewrites the docstrings of what is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
