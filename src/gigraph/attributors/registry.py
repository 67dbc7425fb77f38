"""Which attribution methods there are: the one list of their names, which loads none of them."""

from __future__ import annotations

from pathlib import Path

MODULES = {
    "gig": "gig",
    "gradient_x_input": "gradient_x_input",
}


def source_of(method: str) -> Path:
    """Return the file that holds an attribution method."""
    return Path(__file__).with_name(f"{MODULES[method]}.py")
