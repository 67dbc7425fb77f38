"""What is done to every page: equations become MathML, names of the package links, and nothing is fetched."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

MATHS = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
CODE = re.compile(
    r"(^ *```.*?^ *```|\[[^\]]*\]\[[^\]]*\])|(?<!`)`(?!gigraph\.yaml`)(gigraph(?:\.\w+)+)`(?!`)",
    re.DOTALL | re.MULTILINE,
)
FETCHED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["'](?:https?:)?//[^"']+""")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links of the names of modules and of what is in them; one that has no page ends a strict build."""
    return CODE.sub(lambda found: found[1] or f"[`{found[2]}`][{found[2]}]", markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Draw equations without a script."""

    def drawn(found: re.Match[str]) -> str:
        formula = convert(unescape(found[2]).strip(), display="block" if found[1] == "div" else "inline")
        if "\\" in formula or "&#x0005C;" in formula:
            raise PluginError(f"{page.file.src_uri}: a command of LaTeX that is not known: {found[2]}")
        return formula

    return MATHS.sub(drawn, html)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that a reader without a network would not see whole."""
    if found := FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri}: fetched from elsewhere: {found[0]}")
    return output
