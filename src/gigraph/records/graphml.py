"""GraphML: the graph for networkx, Gephi, yEd and the like, written row by row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

NODE_KEYS = {
    "layer": "string", "concept": "int", "kind": "string", "name": "string", "members": "int", "inner_cosine": "double",
}  # fmt: skip
EDGE_KEYS = {
    "scope": "int", "mean": "double", "se": "double", "support": "int", "weight": "double", "ablation": "double",
}  # fmt: skip

_UNWRITABLE = re.compile("[^\\t\\n\\r\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold at all."""


def write_graphml(out: TextIO, nodes: Iterable[Mapping[str, Any]], edges: Iterable[Mapping[str, Any]]) -> None:
    """Write a directed multigraph: one edge per class in which it is shown.

    Parameters
    ----------
    out : text stream
        UTF-8.
    nodes : iterable of mappings
        With the keys of `NODE_KEYS`; what is None is left out. A node's id is ``layer:concept``.
    edges : iterable of mappings
        With ``source_layer``, ``source``, ``target_layer``, ``target`` and the keys of `EDGE_KEYS`; what is None is
        left out.
    """
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
    for kind, keys in (("node", NODE_KEYS), ("edge", EDGE_KEYS)):
        for name, value in keys.items():
            out.write(f'<key id="{kind}_{name}" for="{kind}" attr.name="{name}" attr.type="{value}"/>\n')
    out.write('<graph edgedefault="directed">\n')
    for node in nodes:
        out.write(f"<node id={_id(node['layer'], node['concept'])}>{_data('node', NODE_KEYS, node)}</node>\n")
    for edge in edges:
        source, target = (_id(edge[f"{end}_layer"], edge[end]) for end in ("source", "target"))
        out.write(f"<edge source={source} target={target}>{_data('edge', EDGE_KEYS, edge)}</edge>\n")
    out.write("</graph>\n</graphml>\n")


def _id(layer: str, concept: int) -> str:
    return quoteattr(f"{layer}:{concept}")


def _data(kind: str, keys: Mapping[str, str], row: Mapping[str, Any]) -> str:
    return "".join(f'<data key="{kind}_{key}">{_text(row[key])}</data>' for key in keys if row[key] is not None)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return str(value)
    return escape(_UNWRITABLE.sub("\ufffd", value))
