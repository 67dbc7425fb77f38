"""Working sets of many samples at once, in torch: for CUDA, or where there is no compiler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gigraph.device import room
from gigraph.method.lasso.codes import Codes, chunks
from gigraph.method.lasso.rounding import dot_error, longest

FIRST_ATOMS = 5
# Inside a working set the optimality conditions are met to this fraction of lambda.
INNER = 1e-7
SWEEPS = 3


class Batched:
    """Working sets batched over samples, grouped by the size of their support (see `Kernel` in the solver).

    The step of the batch that torch is slow at, from the correlations to new coefficients, is `_improve`.
    """

    threaded = False
    multiple = 1
    """V is padded to a multiple of so many atoms."""

    def __init__(self, v: np.ndarray, place: str, memory: int, signed: bool = True) -> None:
        self.device, self.signed = torch.device(place), signed
        # Working sets are padded with a zero atom, number K, that nothing can select.
        self.atoms, channels = v.shape
        padded = np.zeros((-(-(len(v) + 1) // self.multiple) * self.multiple, channels), dtype=np.float32)
        padded[: len(v)] = v
        self.v = torch.from_numpy(padded).to(self.device)
        self.longest = longest(v)
        self.memory = room(memory) if self.device.type == "cuda" else memory

    @cached_property
    def wide(self) -> Tensor:
        """V in float64."""
        return self.v.double()

    def expect(self, samples: int) -> None:
        """Nothing to prepare: working sets' products are formed as they are needed."""

    @property
    def batch(self) -> int:
        """As many samples as fit: c, its copies and masks; the residuals in float64 and their copies."""
        return max(16, min(8192, self.memory // (4 * (4 * self.atoms + 12 * self.v.shape[1]) + 1)))

    @property
    def block(self) -> int:
        """Most numbers in the atoms of the working sets that are solved at once."""
        return max(1, min(2**25, self.memory // 64))

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # TF32 would break the error bound
        try:
            with torch.no_grad():
                yield
        finally:
            torch.set_float32_matmul_precision(precision)

    def solve(self, x: np.ndarray, lam: np.ndarray, tol: float, max_rounds: int) -> Codes:
        """Solve one batch x [B, C] with lam [B]."""
        with self._full_precision():
            return self._solve(
                torch.from_numpy(x).to(self.device).double(), torch.from_numpy(lam).to(self.device), tol, max_rounds
            )

    def _solve(self, x: Tensor, lam: Tensor, tol: float, max_rounds: int) -> Codes:
        width = max(1, min(self.atoms, self.v.shape[1] + FIRST_ATOMS))
        work = torch.full((len(x), width), self.atoms, device=self.device)
        u = torch.zeros((len(x), width), device=self.device)
        size = torch.zeros(len(x), dtype=torch.int32, device=self.device)
        gap = torch.zeros(len(x), dtype=torch.float64, device=self.device)
        rel_l2 = torch.zeros_like(gap)
        active = torch.arange(len(x), device=self.device)
        used = 1
        for step in range(max_rounds + 1):
            last = step == max_rounds
            some_work, some_u = work[active, :used], u[active, :used]
            r = self._residuals(x[active], some_work, some_u)
            c = r.float() @ self.v.T
            relative, error = self._gaps(x[active], r, c, lam[active], some_work, some_u, tol, last)
            gap[active], rel_l2[active] = relative, error
            on = torch.nonzero(relative > tol).flatten()
            if last or not len(on):
                break
            self._improve(on, active, r, c, lam, work, u, size, used)
            active, used = active[on], max(1, int(size.max()))
        atom, order = work[:, :used].sort(1)
        value = u[:, :used].gather(1, order)
        on = value != 0
        return Codes(
            indptr=np.append(0, on.sum(1).cumsum(0).cpu().numpy()).astype(np.int64),
            indices=atom[on].int().cpu().numpy(),
            values=value[on].cpu().numpy(),
            gap=gap.float().cpu().numpy(),
            rel_l2=rel_l2.float().cpu().numpy(),
            stationarity=np.full(len(gap), np.nan, np.float32),
        )

    def _improve(
        self,
        on: Tensor,
        active: Tensor,
        r: Tensor,
        c: Tensor,
        lam: Tensor,
        work: Tensor,
        u: Tensor,
        size: Tensor,
        used: int,
    ) -> None:
        """Improve the samples active[on] on their working sets: the first `size` of `work` and `u` change.

        r [n, C] and c [n, K] are of the samples `active`; c is overwritten.
        """
        atoms = self.atoms
        active, r, c = active[on], r[on], self._strength(c[on])
        c.scatter_(1, work[active], 0.0)  # what is in the support already
        c[c <= lam[active, None]] = 0.0
        support = size[active]
        bucket = torch.ceil(torch.log2(support.clamp(min=1).double())).long()
        for level in bucket.unique().tolist():
            group = torch.nonzero(bucket == level).flatten()
            old = int(support[group].max())
            more = min(max(FIRST_ATOMS, old), atoms)
            for part in chunks(len(group), max(1, self.block // ((old + more) * self.v.shape[1]))):
                some = group[part]
                rows = active[some]
                strength, new = c[some].topk(more, dim=1)
                new[strength == 0] = atoms
                chosen = torch.cat([work[rows, :old], new], dim=1)
                start = torch.cat([u[rows, :old].double(), torch.zeros_like(strength).double()], dim=1)
                found = self._solved(chosen, start, r[some], lam[rows])
                # The support comes first; what follows is padding.
                order = torch.argsort((found == 0).byte(), dim=1, stable=True)[:, : work.shape[1]]
                found = found.gather(1, order)
                chosen = chosen.gather(1, order).masked_fill(found == 0, atoms)
                work[rows], u[rows] = atoms, 0.0
                work[rows, : order.shape[1]], u[rows, : order.shape[1]] = chosen, found
                size[rows] = (found != 0).sum(1, dtype=torch.int32)

    def _strength(self, c: Tensor) -> Tensor:
        """Return how far correlations pull a coefficient from zero."""
        return c.abs() if self.signed else c.clamp(min=0)

    def _residuals(self, x: Tensor, work: Tensor, u: Tensor) -> Tensor:
        """Return r = x - u V [n, C] float64, summed directly."""
        r = x.clone()
        for part in chunks(len(x), max(1, self.block // (work.shape[1] * self.v.shape[1]))):
            r[part] -= torch.bmm(u[part, None].double(), self.wide[work[part]])[:, 0]
        return r

    def _dots(self, atom: Tensor, row: Tensor, r: Tensor) -> Tensor:
        """Return v[atom] . r[row] for pairs of indices, float64."""
        out = r.new_empty(len(atom))
        for part in chunks(len(out), max(1, self.block // self.v.shape[1])):
            out[part] = (self.wide[atom[part]] * r[row[part]]).sum(1)
        return out

    def _dots_on(self, work: Tensor, row: Tensor, r: Tensor) -> Tensor:
        """Return v[work] . r[row] for working sets [n, w] and the samples [n] that they are of, float64."""
        out = r.new_empty(work.shape)
        for part in chunks(len(work), max(1, self.block // (work.shape[1] * self.v.shape[1]))):
            out[part] = torch.bmm(self.wide[work[part]], r[row[part], :, None])[:, :, 0]
        return out

    def _gaps(
        self, x: Tensor, r: Tensor, c: Tensor, lam: Tensor, work: Tensor, u: Tensor, tol: float, last: bool
    ) -> tuple[Tensor, Tensor]:
        """Return each sample's relative gap, infinite where not worth certifying yet, and relative error."""
        xx, xr, rr = (x * x).sum(1), (x * r).sum(1), (r * r).sum(1)
        primal = 0.5 * rr + lam * u.double().abs().sum(1)

        def gaps(top: Tensor, on_support: Tensor, n: Tensor) -> Tensor:
            s = torch.where(top <= lam[n], 1.0, lam[n] / top)
            s = torch.where(rr[n] > 0, torch.minimum(s, xr[n] / rr[n]).clamp(min=0), s)
            coefficients = u[n].double()
            terms = coefficients.abs() * lam[n, None] - s[:, None] * coefficients * on_support
            return 0.5 * (1 - s) ** 2 * rr[n] + terms.clamp(min=0).sum(1)

        everyone = torch.arange(len(x), device=self.device)
        rough = gaps(self._strength(c).amax(1).double(), c.gather(1, work).double(), everyone)
        close = everyone if last else torch.nonzero(rough <= tol * primal).flatten()
        channels = self.v.shape[1]
        length = rr[close].sqrt() * self.longest
        near = self._strength(c[close]) + (dot_error(channels) * length)[:, None] > lam[close, None]
        top = lam[close].clone()
        row, atom = torch.nonzero(near, as_tuple=True)
        exact = self._strength(self._dots(atom, close[row], r))
        top.scatter_reduce_(0, row, exact + channels * 2.0**-52 * length[row], "amax")
        on_support = self._dots_on(work[close], close, r)
        relative = torch.full_like(primal, math.inf)
        bound = gaps(top, on_support, close)
        relative[close] = torch.where(primal[close] > 0, bound / primal[close], 0.0)
        return relative, torch.where(xx > 0, (rr / xx).sqrt(), 0.0)

    def _solved(self, chosen: Tensor, u: Tensor, r: Tensor, lam: Tensor) -> Tensor:
        """Solve the lasso on the working sets `chosen` [n, w], from u [n, w]; return u rounded to float32."""
        atoms = self.wide[chosen]  # [n, w, C]
        gram = torch.bmm(atoms, atoms.transpose(1, 2))
        g = torch.bmm(atoms, r[:, :, None])[:, :, 0]
        out = u.clone()
        left = torch.arange(len(u), device=self.device)
        for _ in range(200):
            self._sweeps(gram, g, u, lam)
            self._newton(gram, g, u, lam)
            violation = torch.where(u != 0, (g - lam[:, None] * u.sign()).abs(), self._strength(g) - lam[:, None])
            out[left] = u
            on = torch.nonzero(violation.amax(1) > INNER * lam).flatten()
            if not len(on):
                break
            gram, g, u, lam, left = gram[on], g[on], u[on], lam[on], left[on]
        return out.float()

    def _sweeps(self, gram: Tensor, g: Tensor, u: Tensor, lam: Tensor) -> None:
        """Minimise over one coefficient after the other; g = V_W r is kept."""
        for _ in range(SWEEPS):
            for j in range(u.shape[1]):
                curvature = gram[:, j, j]
                z = u[:, j] * curvature + g[:, j]
                shrunk = z.sign() * (self._strength(z) - lam).clamp(min=0)
                new = torch.where(curvature > 0, shrunk / curvature, 0.0)
                g -= gram[:, j] * (new - u[:, j])[:, None]
                u[:, j] = new

    def _newton(self, gram: Tensor, g: Tensor, u: Tensor, lam: Tensor) -> None:
        """Solve on the signed supports; a coefficient that would change sign is stepped to zero and dropped.

        Dependent atoms make the step long along the dependence, so that it too ends at the first zero.
        """
        diagonal = torch.diagonal(gram, dim1=1, dim2=2)
        for _ in range(u.shape[1]):
            on = u != 0
            system = gram * (on[:, :, None] & on[:, None, :])
            torch.diagonal(system, dim1=1, dim2=2).copy_(torch.where(on, diagonal * (1 + 1e-11), 1.0))
            factor, failed = torch.linalg.cholesky_ex(system)
            pull = torch.where(on, g - lam[:, None] * u.sign(), 0.0)
            step = torch.cholesky_solve(pull[:, :, None], factor)[:, :, 0]
            step = torch.where((failed == 0)[:, None], step, 0.0)
            reach = torch.where(step * u < 0, -u / step, math.inf)
            length = reach.amin(1).clamp(max=1.0)
            crossed = reach <= length[:, None]
            move = step * length[:, None]
            u += move
            u[crossed] = 0.0
            g -= torch.bmm(gram, move[:, :, None])[:, :, 0]
            if not bool(crossed.any()):
                return
