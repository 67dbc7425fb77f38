"""Working sets of many samples at once, in torch: for CUDA, or where there is no compiler."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gigraph.method.lasso.codes import Codes, chunks, compressed
from gigraph.method.lasso.rounding import dot_error, longest

FIRST_ATOMS = 10
# Inside a working set the optimality conditions are met to this fraction of lambda.
INNER = 1e-7
SWEEPS = 3


class Batched:
    """Working sets batched over samples, grouped by the size of their support (see `Kernel` in the solver)."""

    threaded = False

    def __init__(self, v: np.ndarray, place: str, memory: int) -> None:
        self.device = torch.device(place)
        # Working sets are padded with a zero atom, number K, that nothing can select.
        padded = np.concatenate([v, np.zeros((1, v.shape[1]), dtype=np.float32)])
        self.v = torch.from_numpy(padded).to(self.device)
        self.wide = self.v.double()
        self.longest = longest(v)
        if self.device.type == "cuda":
            memory = min(memory, int(0.8 * torch.cuda.mem_get_info(self.device)[0]))
        # c, its copies and masks; the residuals in float64 and their copies.
        self.batch = max(16, min(8192, memory // (4 * (4 * len(v) + 12 * v.shape[1]) + 1)))
        self.block = max(1, min(2**25, memory // 64))

    def expect(self, samples: int) -> None:
        """Nothing to prepare: working sets' products are formed as they are needed."""

    def solve(self, x: np.ndarray, lam: np.ndarray, tol: float, max_rounds: int) -> Codes:
        """Solve one batch x [B, C] with lam [B]."""
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # TF32 would break the error bound
        try:
            with torch.no_grad():
                return self._solve(
                    torch.from_numpy(x).to(self.device).double(),
                    torch.from_numpy(lam).to(self.device),
                    tol,
                    max_rounds,
                )
        finally:
            torch.set_float32_matmul_precision(precision)

    def _solve(self, x: Tensor, lam: Tensor, tol: float, max_rounds: int) -> Codes:
        atoms = len(self.v) - 1
        work = torch.full((len(x), 1), atoms, device=self.device)
        u = torch.zeros((len(x), 1), device=self.device)
        gap = torch.zeros(len(x), dtype=torch.float64, device=self.device)
        rel_l2 = torch.zeros_like(gap)
        active = torch.arange(len(x), device=self.device)
        for step in range(max_rounds + 1):
            last = step == max_rounds
            r = self._residuals(x[active], work[active], u[active])
            c = r.float() @ self.v.T
            relative, error = self._gaps(x[active], r, c, lam[active], work[active], u[active], tol, last)
            gap[active], rel_l2[active] = relative, error
            on = torch.nonzero(relative > tol).flatten()
            if last or not len(on):
                break
            active, r, c = active[on], r[on], c[on].abs_()
            support = (u[active] != 0).sum(1)
            c.scatter_(1, work[active], 0.0)  # what is in the support already
            c[c <= lam[active, None]] = 0.0
            bucket = torch.ceil(torch.log2(support.clamp(min=1).double())).long()
            for size in bucket.unique().tolist():
                group = torch.nonzero(bucket == size).flatten()
                old = int(support[group].max())
                room = min(max(FIRST_ATOMS, old), atoms)
                for part in chunks(len(group), max(1, self.block // ((old + room) * self.v.shape[1]))):
                    some = group[part]
                    rows = active[some]
                    strength, new = c[some].topk(room, dim=1)
                    new[strength == 0] = atoms
                    chosen = torch.cat([work[rows, :old], new], dim=1)
                    start = torch.cat([u[rows, :old].double(), torch.zeros(strength.shape).to(gap)], dim=1)
                    found = self._improved(chosen, start, r[some], lam[rows])
                    # The support comes first; what follows is padding.
                    order = torch.argsort((found == 0).byte(), dim=1, stable=True)
                    width = max(1, int((found != 0).sum(1).max()))
                    found = found.gather(1, order)[:, :width]
                    chosen = chosen.gather(1, order)[:, :width].masked_fill(found == 0, atoms)
                    if width > work.shape[1]:
                        grow = (0, width - work.shape[1])
                        work = torch.nn.functional.pad(work, grow, value=atoms)
                        u = torch.nn.functional.pad(u, grow)
                    work[rows], u[rows] = atoms, 0.0
                    work[rows, :width], u[rows, :width] = chosen, found
        return compressed(*(t.cpu().numpy() for t in (work, u, rel_l2)), gap=gap.cpu().numpy())

    def _residuals(self, x: Tensor, work: Tensor, u: Tensor) -> Tensor:
        """Return r = x - u V [n, C] float64, summed directly."""
        r = x.clone()
        for part in chunks(len(x), max(1, self.block // (work.shape[1] * self.v.shape[1]))):
            r[part] -= torch.bmm(u[part, None].double(), self.wide[work[part]])[:, 0]
        return r

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
        rough = gaps(c.abs().amax(1).double(), c.gather(1, work).double(), everyone)
        close = everyone if last else torch.nonzero(rough <= tol * primal).flatten()
        channels = self.v.shape[1]
        length = rr[close].sqrt() * self.longest
        near = c[close].abs() + (dot_error(channels) * length)[:, None] > lam[close, None]
        top = lam[close].clone()
        row, atom = torch.nonzero(near, as_tuple=True)
        for part in chunks(len(row), max(1, self.block // channels)):
            exact = (self.wide[atom[part]] * r[close[row[part]]]).sum(1).abs()
            top.scatter_reduce_(0, row[part], exact + channels * 2.0**-52 * length[row[part]], "amax")
        on_support = torch.empty((len(close), work.shape[1]), dtype=torch.float64, device=self.device)
        for part in chunks(len(close), max(1, self.block // (work.shape[1] * channels))):
            n = close[part]
            on_support[part] = torch.bmm(self.wide[work[n]], r[n, :, None])[:, :, 0]
        relative = torch.full_like(primal, math.inf)
        bound = gaps(top, on_support, close)
        relative[close] = torch.where(primal[close] > 0, bound / primal[close], 0.0)
        return relative, torch.where(xx > 0, (rr / xx).sqrt(), 0.0)

    def _improved(self, chosen: Tensor, u: Tensor, r: Tensor, lam: Tensor) -> Tensor:
        """Solve the lasso on the working sets `chosen` [n, w], from u [n, w]; return u rounded to float32."""
        atoms = self.wide[chosen]  # [n, w, C]
        gram = torch.bmm(atoms, atoms.transpose(1, 2))
        g = torch.bmm(atoms, r[:, :, None])[:, :, 0]
        out = u.clone()
        left = torch.arange(len(u), device=self.device)
        for _ in range(200):
            self._sweeps(gram, g, u, lam)
            self._newton(gram, g, u, lam)
            violation = torch.where(u != 0, (g - lam[:, None] * u.sign()).abs(), g.abs() - lam[:, None])
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
                new = torch.where(curvature > 0, z.sign() * (z.abs() - lam).clamp(min=0) / curvature, 0.0)
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
