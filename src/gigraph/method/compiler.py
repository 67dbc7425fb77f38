"""Whether kernels can be compiled."""

from __future__ import annotations


def compiles() -> bool:
    """Say whether numba is there; to find out loads it, so ask only where a compiled kernel is to run."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True
