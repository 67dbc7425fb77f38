"""Whether kernels can be compiled."""

from __future__ import annotations

from functools import cache


def compiles() -> bool:
    """Say whether numba is there; to find out loads it, so ask only where a compiled kernel is to run."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def compiles_cuda() -> bool:
    """Say whether CuPy is there to compile CUDA kernels, and a device to run them; to find out loads it as well."""
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # no CuPy, no driver or no device: CuPy has a different exception for each
        return False
