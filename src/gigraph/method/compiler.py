"""Where kernels run: compiled by numba, or by torch on a device."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Literal

import numpy as np

Backend = Literal["auto", "numba", "torch"]


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


def choose(backend: Backend, device: str | None, small: bool = False) -> tuple[str, str]:
    """Return ``numba`` or ``torch``, and its device: torch where there is a CUDA device or no numba, else numba.

    A `small` problem is not worth the start of a GPU, and stays on the CPU where it may choose.
    """
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f"backend must be auto, numba or torch, not {backend!r}")
    if backend == "numba" and not compiles():
        raise ValueError("backend 'numba' was asked for, but numba is not installed")
    here = device in (None, "cpu") and (small or not _cuda_driver())
    if backend == "numba" or (backend == "auto" and here and compiles()):
        return "numba", "cpu"
    import torch

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if backend == "torch" or place != "cpu" or not compiles():
        return "torch", place
    return "numba", "cpu"


def read_only(a: np.ndarray) -> np.ndarray:
    """Return a view of this type, whatever the caller's may be: a kernel is compiled for each type anew."""
    view = a.view()
    view.flags.writeable = False
    return view


def _cuda_driver() -> bool:
    """Say whether there is a CUDA driver, without the seconds that importing torch takes."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
