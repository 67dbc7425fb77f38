"""Pursuit and refitting of many samples at once, in torch: for CUDA, or where there is no compiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gigraph.method.lasso.codes import Codes, chunks, compressed, joined
from gigraph.method.lasso.rounding import dot_error

# Of lengths 1 each: a correlation below is rounding, and an atom whose part outside the support's span is shorter
# than the root of the other depends on the support.
FLOOR = 1e-6
DEPENDENT = 1e-6
# Below any correlation: what may not be chosen.
TAKEN = -1e30


@dataclass
class State:
    """Where samples stand, in terms of unit samples and unit atoms; places past `size` hold atom K and zeros."""

    x: Tensor
    r: Tensor
    work: Tensor
    gamma: Tensor
    y: Tensor
    basis: Tensor
    size: Tensor


class Batched:
    """One atom at a time for all samples of a batch (see `gigraph.method.pursuit.solver.Kernel`)."""

    def __init__(self, v: np.ndarray, place: str, memory: int) -> None:
        self.device = torch.device(place)
        # Supports are padded with a zero atom, number K, that nothing can select.
        wide = torch.from_numpy(np.concatenate([v, np.zeros((1, v.shape[1]), dtype=np.float32)])).to(self.device)
        wide = wide.double()
        self.lengths = wide.norm(dim=1)
        self.wide = torch.where(self.lengths[:, None] > 0, wide / self.lengths[:, None], 0.0)
        self.units = self.wide.float()
        if self.device.type == "cuda":
            memory = min(memory, int(0.8 * torch.cuda.mem_get_info(self.device)[0]))
        self.memory = memory
        self.block = max(1, min(2**25, memory // 64))

    def solve(self, x: np.ndarray, width: int, residual: float, nonnegative: bool, batch: int | None) -> Codes:
        """Pursue x [N, C] with at most `width` atoms each."""
        # c, its copies and masks; samples, residuals and their copies; the basis and what it is changed by.
        state = 16 * len(self.wide) + 48 * x.shape[1] + 24 * width * width
        batch = batch or max(16, min(8192, self.memory // state))
        return self._in_batches(x, batch, lambda some, part: self._solve(some, width, residual, nonnegative))

    def refit(self, x: np.ndarray, codes: Codes, nonnegative: bool, batch: int | None) -> Codes:
        """Solve the least squares on the supports of `codes` for x [N, C]."""
        counts, batch = codes.nonzeros(), batch or 8192

        def solve(some: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            ends, width = codes.indptr[part.start : part.stop + 1], max(1, int(counts[part].max(initial=0)))
            row = np.repeat(np.arange(len(some)), counts[part])
            place = np.arange(ends[0], ends[-1]) - np.repeat(ends[:-1], counts[part])
            padded = np.full((len(some), width), len(self.wide) - 1), np.zeros((len(some), width), dtype=np.float32)
            padded[0][row, place] = codes.indices[ends[0] : ends[-1]]
            padded[1][row, place] = codes.values[ends[0] : ends[-1]]
            work, given = (torch.from_numpy(one).to(self.device) for one in padded)
            rel_l2, stationarity = torch.zeros_like(some[:, 0]), torch.zeros_like(some[:, 0])
            u = torch.zeros_like(given)
            size = torch.from_numpy(counts[part]).to(self.device)
            for rows in _by_size(size):
                wide = int(size[rows].max())
                for few in chunks(len(rows), max(1, self.block // (wide * (wide + x.shape[1])))):
                    at = rows[few]
                    found = self._refit(some[at], work[at, :wide], given[at, :wide], nonnegative)
                    u[at, :wide], rel_l2[at], stationarity[at] = found
            return work, u, rel_l2, stationarity

        return self._in_batches(x, batch, solve)

    def _in_batches(self, x: np.ndarray, batch: int, solve: Callable[[Tensor, slice], tuple[Tensor, ...]]) -> Codes:
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # TF32 would break the error bound
        try:
            with torch.no_grad():
                parts = []
                for part in chunks(len(x), batch):
                    found = solve(torch.from_numpy(x[part]).to(self.device).double(), part)
                    work, u, rel_l2, stationarity = (t.cpu().numpy() for t in found)
                    parts.append(compressed(work, u, rel_l2, stationarity=stationarity))
                return joined(parts)
        finally:
            torch.set_float32_matmul_precision(precision)

    def _solve(
        self, x: Tensor, width: int, residual: float, nonnegative: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        lengths = x.norm(dim=1)
        unit = torch.where(lengths[:, None] > 0, x / lengths[:, None], 0.0)
        state = State(
            x=unit,
            r=unit.clone(),
            work=torch.full((len(x), width), len(self.wide) - 1, device=self.device),
            gamma=x.new_zeros((len(x), width)),
            y=x.new_zeros((len(x), width)),
            basis=x.new_zeros((len(x), width, width)),
            size=torch.zeros(len(x), dtype=torch.long, device=self.device),
        )
        on = torch.arange(len(x), device=self.device)
        for _ in range(4 * width):
            rest = state.r[on].norm(dim=1)
            on = on[(rest > max(residual, FLOOR)) & (state.size[on] < width)]
            if not len(on):
                break
            on = self._add(state, on, nonnegative)
            if nonnegative:
                self._feasible(state, on)
            else:
                k = int(state.size[on].max()) if len(on) else 0
                state.gamma[on, :k] = _combined(state.basis[on, :k, :k], state.y[on, :k])
            state.r[on] = self._residuals(state.x[on], state.work[on], state.gamma[on])
        u = (state.gamma * lengths[:, None] / self.lengths[state.work].clamp(min=1e-300)).float()
        return (state.work, u, *self._certificate(x, state.work, u))

    def _add(self, state: State, on: Tensor, nonnegative: bool) -> Tensor:
        """Append to each sample's support the atom of largest correlation; return the samples that got one."""
        none = len(self.wide) - 1
        c = state.r[on].float() @ self.units.T
        c = c.clamp_(min=0) if nonnegative else c.abs_()
        c.scatter_(1, state.work[on], TAKEN)
        c[:, none] = TAKEN
        # The units and the residual are rounded too.
        error = (dot_error(state.x.shape[1] + 6) * state.r[on].norm(dim=1)).float()
        got = torch.zeros(len(on), dtype=torch.bool, device=self.device)
        pending = torch.arange(len(on), device=self.device)
        while len(pending):
            mine = c if len(pending) == len(on) else c[pending]
            top = mine.amax(1)
            able = top + error[pending] > FLOOR
            pending, mine, top = pending[able], mine[able], top[able]
            if not len(pending):
                break
            # Of those that may be the largest, the products in float64 decide; of equal ones, the index.
            row, atom = torch.nonzero(mine >= (top - 2.02 * error[pending])[:, None], as_tuple=True)
            exact = torch.empty(len(row), dtype=torch.float64, device=self.device)
            for part in chunks(len(row), max(1, self.block // state.x.shape[1])):
                exact[part] = (self.wide[atom[part]] * state.r[on[pending[row[part]]]]).sum(1)
            exact = exact if nonnegative else exact.abs()
            best = torch.full_like(top, TAKEN, dtype=torch.float64).scatter_reduce(0, row, exact, "amax")
            equal = exact == best[row]
            j = torch.full_like(pending, none).scatter_reduce(0, row[equal], atom[equal], "amin")
            able = best > FLOOR
            pending, j = pending[able], j[able]
            added = torch.zeros(len(pending), dtype=torch.bool, device=self.device)
            widest = int(state.size[on[pending]].max()) + 1 if len(pending) else 1
            for part in chunks(len(pending), max(1, self.block // (widest * state.x.shape[1]))):
                added[part] = self._append(state, on[pending[part]], j[part])
            got[pending[added]] = True
            pending, j = pending[~added], j[~added]
            c[pending, j] = TAKEN
        return on[got]

    def _append(self, state: State, rows: Tensor, j: Tensor) -> Tensor:
        """Append atom j to the supports and bases of samples, where it does not depend on the support; say where."""
        size = state.size[rows]
        k = int(size.max())
        basis, y, atom = state.basis[rows, :k, :k], state.y[rows, :k], self.wide[j]
        products = torch.bmm(self.wide[state.work[rows, :k]], atom[:, :, None])
        parts = torch.bmm(basis, products)[:, :, 0]
        outside = 1.0 - (parts * parts).sum(1)
        correlation = (atom * state.x[rows]).sum(1) - (parts * y).sum(1)
        able = outside > DEPENDENT
        rows, size, scale = rows[able], size[able], outside[able].rsqrt()
        state.basis[rows, size, :k] = -scale[:, None] * _combined(basis[able], parts[able])
        state.basis[rows, size, size] = scale
        state.y[rows, size] = correlation[able] * scale
        state.work[rows, size] = j[able]
        state.size[rows] = size + 1
        return able

    def _feasible(self, state: State, on: Tensor) -> None:
        """Go from gamma >= 0 towards the least squares on the supports, at each zero without the atom it is of."""
        while len(on):
            k = int(state.size[on].max())
            goal = _combined(state.basis[on, :k, :k], state.y[on, :k])
            inside = torch.arange(k, device=self.device) < state.size[on, None]
            bad = (goal <= 0) & inside
            crossing = bad.any(1)
            state.gamma[on[~crossing], :k] = goal[~crossing]
            on, goal, inside, bad = on[crossing], goal[crossing], inside[crossing], bad[crossing]
            gamma, gone = _towards(state.gamma[on, :k], goal, bad, inside)
            # What stays comes first, in its order.
            order = torch.argsort((~inside | gone).byte(), dim=1, stable=True)
            stays = (inside & ~gone).gather(1, order)
            state.gamma[on, :k] = torch.where(stays, gamma.gather(1, order), 0.0)
            state.work[on, :k] = state.work[on, :k].gather(1, order).masked_fill(~stays, len(self.wide) - 1)
            state.size[on] = stays.sum(1)
            for part in chunks(len(on), max(1, self.block // (k * (k + state.x.shape[1])))):
                rows, some = on[part], stays[part]
                atoms = self.wide[state.work[rows, :k]]
                gram = torch.bmm(atoms, atoms.transpose(1, 2))
                torch.diagonal(gram, dim1=1, dim2=2).masked_fill_(~some, 1.0)
                identity = torch.eye(k, dtype=gram.dtype, device=self.device).expand_as(gram)
                basis = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), identity, upper=False)
                basis = basis * some[:, :, None]
                state.basis[rows, :k, :k] = basis
                state.y[rows, :k] = torch.bmm(basis, torch.bmm(atoms, state.x[rows, :, None]))[:, :, 0]

    def _residuals(self, x: Tensor, work: Tensor, gamma: Tensor) -> Tensor:
        """Return x - gamma V [n, C] float64 for the unit atoms, summed directly."""
        r = x.clone()
        used = max(1, int((gamma != 0).sum(1).max())) if len(x) else 1  # padding comes last
        for part in chunks(len(x), max(1, self.block // (used * x.shape[1]))):
            r[part] -= torch.bmm(gamma[part, None, :used], self.wide[work[part, :used]])[:, 0]
        return r

    def _certificate(self, x: Tensor, work: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return |r| / |x| and max |v_j . r| / (|v_j| |x|) over the support, r = x - u V."""
        lengths = x.norm(dim=1)
        worst, rest = torch.zeros_like(lengths), torch.zeros_like(lengths)
        for part in chunks(len(x), max(1, self.block // (work.shape[1] * x.shape[1]))):
            atoms = self.wide[work[part]]
            r = x[part] - torch.bmm((u[part].double() * self.lengths[work[part]])[:, None], atoms)[:, 0]
            rest[part] = r.norm(dim=1)
            worst[part] = (torch.bmm(atoms, r[:, :, None])[:, :, 0] * (u[part] != 0)).abs().amax(1)
        return torch.where(lengths > 0, rest / lengths, 0.0), torch.where(lengths > 0, worst / lengths, 0.0)

    def _refit(self, x: Tensor, work: Tensor, given: Tensor, nonnegative: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return u, in the places of `given`, and its certificate."""
        lengths = x.norm(dim=1)
        unit = torch.where(lengths[:, None] > 0, x / lengths[:, None], 0.0)
        # Of dependent atoms those stay that give most.
        weight = given.double() * self.lengths[work]
        order = torch.argsort(-weight.abs(), dim=1, stable=True)
        atoms = self.wide[work.gather(1, order)]
        gram = torch.bmm(atoms, atoms.transpose(1, 2))
        target = torch.bmm(atoms, unit[:, :, None])[:, :, 0]
        start = weight.gather(1, order) / lengths.clamp(min=1e-300)[:, None]
        real = torch.diagonal(gram, dim1=1, dim2=2) > 0
        on = _independent(gram, real & (start > 0 if nonnegative else start != 0))
        gamma = _restricted(gram, target, start * on, on, real) if nonnegative else _solved(gram, target, on)
        gamma = torch.zeros_like(gamma).scatter_(1, order, gamma)
        u = (gamma * lengths[:, None] / self.lengths[work].clamp(min=1e-300)).float()
        rel_l2, stationarity = self._certificate(x, work, u)
        before, moved = self._certificate(x, work, given)
        # Where nothing is left to gain, rounding may lose.
        keeps = (before < rel_l2) & ~(nonnegative & (given < 0).any(1))
        u = torch.where(keeps[:, None], given, u) * (lengths > 0)[:, None]
        return u, torch.where(keeps, before, rel_l2), torch.where(keeps, moved, stationarity)


def _by_size(size: Tensor) -> list[Tensor]:
    """Return the samples that have a size, grouped by powers of two of it."""
    bucket = torch.ceil(torch.log2(size.clamp(min=1).double())).long()
    return [torch.nonzero((bucket == one) & (size > 0)).flatten() for one in bucket[size > 0].unique().tolist()]


def _combined(basis: Tensor, y: Tensor) -> Tensor:
    """Return the coefficients [n, k] of unit atoms whose parts along the basis are y [n, k]."""
    return torch.bmm(y[:, None], basis)[:, 0]


def _towards(gamma: Tensor, goal: Tensor, bad: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Go from gamma > 0 towards `goal`, up to the first zero among the `bad`; return gamma and which are zero."""
    reach = torch.where(bad, torch.where(gamma > 0, gamma / (gamma - goal), 0.0), torch.inf)
    length = reach.amin(1, keepdim=True)
    gamma = gamma + torch.where(inside, length * (goal - gamma), 0.0)
    gone = inside & ((reach <= length) | (gamma <= 0))
    return gamma.masked_fill(gone, 0.0), gone


def _independent(gram: Tensor, allowed: Tensor) -> Tensor:
    """Return which of the allowed unit atoms [n, w] do not depend on those before, by a Cholesky factor's pivots."""
    on, factor = torch.zeros_like(allowed), torch.zeros_like(gram)
    torch.diagonal(factor, dim1=1, dim2=2).fill_(1.0)
    for t in range(gram.shape[1]):
        products = torch.where(on[:, :t], gram[:, t, :t], 0.0)
        parts = torch.linalg.solve_triangular(factor[:, :t, :t], products[:, :, None], upper=False)[:, :, 0]
        outside = 1.0 - (parts * parts).sum(1)
        on[:, t] = allowed[:, t] & (outside > DEPENDENT)
        factor[:, t, :t] = torch.where(on[:, t, None], parts, 0.0)
        factor[:, t, t] = torch.where(on[:, t], outside.clamp(min=DEPENDENT).sqrt(), 1.0)
    return on


def _factor(gram: Tensor, on: Tensor) -> Tensor:
    system = gram * (on[:, :, None] & on[:, None, :])
    torch.diagonal(system, dim1=1, dim2=2).masked_fill_(~on, 1.0)
    return torch.linalg.cholesky(system)


def _solved(gram: Tensor, target: Tensor, on: Tensor) -> Tensor:
    """Return the least squares [n, w] on the atoms that are on."""
    return torch.cholesky_solve(torch.where(on, target, 0.0)[:, :, None], _factor(gram, on))[:, :, 0]


def _restricted(gram: Tensor, target: Tensor, gamma: Tensor, on: Tensor, real: Tensor) -> Tensor:
    """Return the non-negative least squares [n, w] on the real atoms, from gamma > 0 on those that are `on`."""
    out = gamma.clone()
    left = torch.arange(len(gamma), device=gamma.device)
    able = real.clone()  # not known to depend on those that are on
    for _ in range(8 * gamma.shape[1] + 1):
        goal = _solved(gram, target, on)
        bad = on & (goal <= 0)
        crossing = bad.any(1)
        # Samples that meet no zero take the goal, and an atom more or none; the others go as far as the first zero.
        part, gone = _towards(gamma, goal, bad, on)
        gamma = torch.where(crossing[:, None], part, goal)
        on = on & ~(gone & crossing[:, None])
        able = torch.where(crossing[:, None], real, able)
        out[left] = gamma
        while True:
            slope = target - torch.bmm(gram, gamma[:, :, None])[:, :, 0]
            best, j = torch.where(able & ~on, slope, 0.0).max(1)
            asks = ~crossing & (best > FLOOR)
            column = torch.where(on, gram.gather(1, j[:, None, None].expand(-1, 1, gram.shape[2]))[:, 0], 0.0)
            solved = torch.cholesky_solve(column[:, :, None], _factor(gram, on))[:, :, 0]
            depends = asks & (1.0 - (column * solved).sum(1) <= DEPENDENT)
            if not bool(depends.any()):
                break
            able = able & ~(depends[:, None] & torch.nn.functional.one_hot(j, able.shape[1]).bool())
        on = on | (asks[:, None] & torch.nn.functional.one_hot(j, on.shape[1]).bool())
        go = torch.nonzero(crossing | asks).flatten()
        if not len(go):
            break
        gram, target, gamma, on, real, able, left = (t[go] for t in (gram, target, gamma, on, real, able, left))
    return out
