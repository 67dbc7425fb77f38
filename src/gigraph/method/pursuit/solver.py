"""Choosing few atoms for each sample, and solving the least squares on given ones."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gigraph.method.compiler import Backend, choose
from gigraph.method.lasso.codes import Codes, Sign, is_signed

MEMORY = 2**31
"""Bytes that the work may take if nobody says otherwise."""


class Kernel(Protocol):
    """What solves for a `Pursuit`; None for the batch leaves its size to the memory."""

    def solve(self, x: np.ndarray, width: int, residual: float, nonnegative: bool, batch: int | None) -> Codes:
        """Pursue x [N, C] float32 with at most `width` >= 1 atoms each, until |r| <= residual |x|."""

    def refit(self, x: np.ndarray, codes: Codes, nonnegative: bool, batch: int | None) -> Codes:
        """Solve the least squares on the supports of `codes` for x [N, C] float32."""


class Pursuit:
    """Orthogonal matching pursuit on one set of concept vectors, for many calls: their Gram matrix is made once.

    Parameters
    ----------
    vectors : float32 array [K, C]
        Concept vectors of any length; a zero one is never used.
    memory : int
        Bytes that the work may take besides x, V and the result. The K x K products of the concept vectors are
        kept if they fit half of it.
    backend : {"auto", "numba", "torch"}
        ``auto``: torch where there is a CUDA device or no numba, else numba.
    device : str, optional
        Of the torch backend; default ``cuda`` where there is one, else ``cpu``.

    Raises
    ------
    ValueError
        If `vectors` are no [K, C], hold a value that is not finite, or there is no such backend.
    """

    def __init__(
        self, vectors: np.ndarray, *, memory: int = MEMORY, backend: Backend = "auto", device: str | None = None
    ) -> None:
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.vectors.ndim != 2:
            raise ValueError(f"vectors must be [K, C], not {self.vectors.shape}")
        if not np.isfinite(self.vectors).all():
            raise ValueError("vectors hold a value that is not finite")
        self._kernel = _load(*choose(backend, device), self.vectors, memory)

    def solve(
        self,
        x: np.ndarray,
        nonzeros: int | None = None,
        residual: float | None = None,
        sign: Sign = "any",
        *,
        batch: int | None = None,
    ) -> Codes:
        """Return the coefficients of x on few concept vectors, the least squares on those chosen.

        Parameters
        ----------
        x : float32 array [N, C]
            Centred PFVs.
        nonzeros : int, optional
            Stop at so many concept vectors a sample.
        residual : float, optional
            Stop where |x - u V| <= residual |x|, in [0, 1]; given both, whichever comes first.
        sign : {"any", "nonnegative"}
            Of the coefficients; see `gigraph.method.pursuit` for the two algorithms and what holds of them.
        batch : int, optional
            Samples solved at once; the compiled solution does not depend on it, torch's not beyond float64's
            rounding. Default: as the memory allows.

        Returns
        -------
        Codes
            Of fewer concept vectors where no correlation is left above 1e-6 |x|, or only with concept vectors whose
            distance from the span of those chosen is below 1e-3 of their length: such have no coefficient that
            float32 could hold. `gap` is NaN.

        Raises
        ------
        ValueError
            For shapes that do not fit, values that are not finite, no stop or an impossible one, or coefficients
            beyond float32.
        """
        x = self._checked(x)
        if nonzeros is None and residual is None:
            raise ValueError("nonzeros or residual must say where to stop")
        if nonzeros is not None and nonzeros < 1:
            raise ValueError(f"nonzeros must be at least 1, not {nonzeros}")
        if residual is not None and not 0 <= residual <= 1:
            raise ValueError(f"residual must be between 0 and 1, not {residual}")
        rank = max(1, min(self.vectors.shape))
        width = rank if nonzeros is None else min(nonzeros, rank)
        # Nothing correlates without a concept vector, as with a zero one.
        return _held(self._kernel.solve(x, int(width), residual or 0.0, not is_signed(sign), batch))

    def refit(self, x: np.ndarray, codes: Codes, sign: Sign = "any", *, batch: int | None = None) -> Codes:
        """Return the least squares on the support of each sample's codes; see the function `refit`."""
        x = self._checked(x)
        if len(codes.gap) != len(x):
            raise ValueError(f"there are codes of {len(codes.gap)} samples for {len(x)}")
        if codes.indices.size and not 0 <= codes.indices.min() <= codes.indices.max() < len(self.vectors):
            raise ValueError(f"the codes are of other vectors than these {len(self.vectors)}")
        return _held(self._kernel.refit(x, codes, not is_signed(sign), batch))

    def _checked(self, x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"x must be [N, C] and vectors [K, C], not {x.shape} and {self.vectors.shape}")
        if not np.isfinite(x).all():
            raise ValueError("x holds a value that is not finite")
        return x


def refit(
    x: np.ndarray,
    vectors: np.ndarray,
    codes: Codes,
    sign: Sign = "any",
    *,
    memory: int = MEMORY,
    backend: Backend = "auto",
    device: str | None = None,
) -> Codes:
    """Solve the least squares on each sample's given support, without the lasso's shrinkage.

    The relaxed lasso with its second penalty zero: Meinshausen, "Relaxed lasso", CSDA 2007.

    Parameters
    ----------
    x : float32 array [N, C]
        Centred PFVs.
    vectors : float32 array [K, C]
        Concept vectors.
    codes : Codes
        Supports, and coefficients to improve on.
    sign : {"any", "nonnegative"}
        ``nonnegative``: the non-negative least squares on the support, by the active-set method of Lawson & Hanson
        from the positive coefficients; those it makes zero leave the support.
    memory, backend, device
        As of `Pursuit`.

    Returns
    -------
    Codes
        Of a support's dependent concept vectors only those stay that are farther than 1e-3 of their length from the
        span of those before, in falling order of |u_j| |v_j|. Where rounding or that leaves a larger residual than the
        given coefficients (and they have the sign), those are returned: the residual never grows. `gap` is NaN.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or coefficients beyond float32.
    """
    return Pursuit(vectors, memory=memory, backend=backend, device=device).refit(x, codes, sign)


def _held(codes: Codes) -> Codes:
    if not np.isfinite(codes.values).all():
        raise ValueError("a coefficient is beyond float32: scale x or the vectors")
    return codes


def _load(backend: str, place: str, v: np.ndarray, memory: int) -> Kernel:
    if backend == "numba":
        from gigraph.method.pursuit.compiled import Compiled

        return Compiled(v, memory)
    from gigraph.method.pursuit.batched import Batched

    return Batched(v, place, memory)
