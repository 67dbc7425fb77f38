"""The orders in which concepts are deleted and inserted: by an attribution method, by exact ablation, or by chance."""

from __future__ import annotations

from collections.abc import Iterable

TITLES = {"gig": "GIG", "gradient_x_input": "gradient × input", "ablation": "exact ablation", "random": "random"}


def title(order: str) -> str:
    """Return what people call an order; a further attribution method goes by its own name."""
    return TITLES.get(order, order.replace("_", " "))


def arranged(found: Iterable[str], own: str) -> list[str]:
    """Return the orders of a table: the graph's own method, exact ablation, other methods, chance."""
    others = [order for order in dict.fromkeys(found) if order not in ("", own, "ablation", "random")]
    return [own, "ablation", *others, "random"]
