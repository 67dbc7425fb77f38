"""Pursuit and refitting sample by sample, compiled.

Imported where numba is there, and only when it is to run.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gigraph.method.compiler import read_only
from gigraph.method.lasso.codes import Codes, chunks, compressed, joined
from gigraph.threads import spread, threads_allowed

GRAM_BYTES = 2**30
"""Most memory that the K x K products of the unit atoms may take; beyond it, every step forms its correlations."""
# The Gram matrix is made once there is a sample for each so many atoms.
WORTH = 12

# numba compiles globals in, and only a change of this very file renews its cache on disk: so what kernels read stands
# here, be it once more.
FLOAT32_UNIT = 2.0**-24
# Of lengths 1 each: a correlation below is rounding, and an atom whose part outside the support's span is shorter
# than the root of the other depends on the support.
FLOOR = 1e-6
DEPENDENT = 1e-6
# Below any correlation: what may not be chosen.
TAKEN = -1e30
# Atoms that are updated at once, in the innermost cache, and whose maximum says whether any is looked at.
BLOCK = 512

_ANY_ORDER = {"reassoc", "contract"}


class Compiled:
    """Pursuit sample by sample; batches are spread over threads (see `gigraph.method.pursuit.solver.Kernel`)."""

    def __init__(self, v: np.ndarray, memory: int) -> None:
        self.v, self.memory = read_only(v), memory
        lengths = np.sqrt(np.einsum("kc,kc->k", v, v, dtype=np.float64))
        self.inverse = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        self.units = read_only((v * self.inverse[:, None]).astype(np.float32))
        self.gram = read_only(np.zeros((0, 0), dtype=np.float32))
        self.expected = 0

    def solve(self, x: np.ndarray, width: int, residual: float, nonnegative: bool, batch: int | None) -> Codes:
        """Pursue x [N, C] with at most `width` atoms each."""
        self._expect(len(x))
        parts = chunks(len(x), batch or self._batch(width))
        return joined(spread(lambda part: self._solve(x[part], width, residual, nonnegative), parts))

    def refit(self, x: np.ndarray, codes: Codes, nonnegative: bool, batch: int | None) -> Codes:
        """Solve the least squares on the supports of `codes` for x [N, C]."""

        def solve(part: slice) -> Codes:
            ends = codes.indptr[part.start : part.stop + 1]
            some = slice(ends[0], ends[-1])
            width = int(np.diff(ends).max(initial=0))
            u = np.zeros((len(ends) - 1, max(1, width)), dtype=np.float32)
            work = np.zeros(u.shape, dtype=np.int32)
            rel_l2, stationarity = np.zeros(len(u)), np.zeros(len(u))
            given = np.array(codes.indices[some]), np.array(codes.values[some])
            _refit(read_only(x[part]), self.v, self.inverse, ends - ends[0], *given, nonnegative, work, u, rel_l2,
                   stationarity)  # fmt: skip
            return compressed(work, u, rel_l2, stationarity=stationarity)

        return joined(spread(solve, chunks(len(x), batch or 512)))

    def _expect(self, samples: int) -> None:
        """Prepare for so many more samples; once there are enough, the products of atoms save more than they cost."""
        self.expected += samples
        fits = len(self.v) ** 2 * 4 <= min(GRAM_BYTES, self.memory // 2)
        if fits and not self.gram.size and self.expected * WORTH >= len(self.v):
            self.gram = read_only(self.units @ self.units.T)

    def _batch(self, width: int) -> int:
        """So few samples that their correlations stay in the caches, so many that the product runs at full speed."""
        left = max(0, self.memory - self.gram.nbytes) // threads_allowed()
        state = 28 * width + (0 if self.gram.size else 8 * width * width)
        return max(16, min(512, left // (4 * len(self.v) + 24 * self.v.shape[1] + state + 1)))

    def _solve(self, x: np.ndarray, width: int, residual: float, nonnegative: bool) -> Codes:
        samples = len(x)
        lengths = np.sqrt(np.einsum("nc,nc->n", x, x, dtype=np.float64))
        work, u = np.zeros((samples, width), dtype=np.int32), np.zeros((samples, width), dtype=np.float32)
        gamma, y = np.zeros((samples, width)), np.zeros((samples, width))
        size, tried = np.zeros(samples, dtype=np.int64), np.zeros(samples, dtype=np.int64)
        rel_l2, stationarity = np.zeros(samples), np.zeros(samples)
        # With the Gram matrix a sample is finished at once, and the next may have its scratch.
        own = 1 if self.gram.size else samples
        basis, r = np.zeros((own, width, width)), np.zeros((own, x.shape[1]))
        active = np.flatnonzero(lengths > 0)
        sent = (x[active] / lengths[active, None]).astype(np.float32)
        correlations = np.empty((len(active), len(self.v)), dtype=np.float32)
        while len(active):
            c = np.matmul(sent, self.units.T, out=correlations[: len(active)])
            state = (work, gamma, y, basis, r, size, tried, lengths, u, rel_l2, stationarity)
            done = _pursue(read_only(x), self.v, self.inverse, self.gram, c, active, *state, residual, nonnegative)
            active = active[~done]
            if len(active):
                sent = r[active].astype(np.float32)
        return compressed(work, u, rel_l2, stationarity=stationarity)


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.size):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(cache=True, nogil=True)
def _largest(bits: np.ndarray) -> int:
    """Return the maximum of float32 values, none negative but `TAKEN`, as bits: of whole numbers it is vectorised."""
    top = bits[0]
    for j in range(bits.size):
        top = max(top, bits[j])
    return top


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _correlate(c: np.ndarray, gram: np.ndarray, atoms: np.ndarray, gamma: np.ndarray, out: np.ndarray) -> None:
    """Write c - gamma G_S [K], four rows at a time: reading them is what it costs."""
    k = atoms.size
    for start in range(0, out.size, BLOCK):
        stop = min(start + BLOCK, out.size)
        block = out[start:stop]
        block[:] = c[start:stop]
        for p in range(0, k - 3, 4):
            g0, g1 = gram[atoms[p], start:stop], gram[atoms[p + 1], start:stop]
            g2, g3 = gram[atoms[p + 2], start:stop], gram[atoms[p + 3], start:stop]
            a0, a1 = np.float32(gamma[p]), np.float32(gamma[p + 1])
            a2, a3 = np.float32(gamma[p + 2]), np.float32(gamma[p + 3])
            for q in range(block.size):
                block[q] -= (a0 * g0[q] + a1 * g1[q]) + (a2 * g2[q] + a3 * g3[q])
        for p in range(k - k % 4, k):
            g0, a0 = gram[atoms[p], start:stop], np.float32(gamma[p])
            for q in range(block.size):
                block[q] -= a0 * g0[q]


@njit(cache=True, nogil=True)
def _admit(values: np.ndarray, taken: np.ndarray, nonnegative: bool) -> None:
    """Turn correlations into what may be chosen by: magnitudes, or nothing where negative."""
    for j in range(values.size):
        value = values[j]
        values[j] = value if value > 0 else np.float32(0) if nonnegative else -value
    for p in range(taken.size):
        values[taken[p]] = TAKEN


@njit(cache=True, nogil=True)
def _near(values: np.ndarray, tops: np.ndarray, error: float, found: np.ndarray) -> int:
    """Write, ascending, which values may be the largest if each is off by at most `error`; return how many.

    None where the largest is rounding for certain.
    """
    bits, maxima = values.view(np.int32), tops.view(np.int32)
    for b in range(tops.size):
        maxima[b] = _largest(bits[b * BLOCK : (b + 1) * BLOCK])
    top = np.float64(TAKEN)
    for b in range(tops.size):
        top = max(top, np.float64(tops[b]))
    if top + error <= FLOOR:
        return 0
    # The hundredth is more than the bar's own rounding.
    bar = np.float32(top - 2.02 * error)
    n = 0
    for b in range(tops.size):
        if tops[b] >= bar:
            for j in range(b * BLOCK, min((b + 1) * BLOCK, values.size)):
                if values[j] >= bar:
                    found[n] = j
                    n += 1
    return n


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _residual(
    x: np.ndarray, v: np.ndarray, inverse: np.ndarray, atoms: np.ndarray, gamma: np.ndarray, r: np.ndarray
) -> None:
    """Write x - gamma V [C] for the unit atoms, summed directly in float64."""
    for ch in range(x.size):
        r[ch] = x[ch]
    for p in range(atoms.size):
        value = gamma[p] * inverse[atoms[p]]
        atom = v[atoms[p]]
        for ch in range(x.size):
            r[ch] -= value * atom[ch]


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _products(v: np.ndarray, atoms: np.ndarray, wide: np.ndarray, out: np.ndarray) -> None:
    """Write v_j . wide [k] in float64 for the rows j of `atoms`, four at a time."""
    k = atoms.size
    for p in range(0, k - 3, 4):
        v0, v1, v2, v3 = v[atoms[p]], v[atoms[p + 1]], v[atoms[p + 2]], v[atoms[p + 3]]
        t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
        for ch in range(wide.size):
            value = wide[ch]
            t0 += value * v0[ch]
            t1 += value * v1[ch]
            t2 += value * v2[ch]
            t3 += value * v3[ch]
        out[p], out[p + 1], out[p + 2], out[p + 3] = t0, t1, t2, t3
    for p in range(k - k % 4, k):
        out[p] = _dot(v[atoms[p]], wide)


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _project(
    x: np.ndarray,
    v: np.ndarray,
    inverse: np.ndarray,
    atoms: np.ndarray,
    j: int,
    basis: np.ndarray,
    y: np.ndarray,
    wide: np.ndarray,
    parts: np.ndarray,
) -> tuple[float, float]:
    """Write v_j's parts along the basis; return the square of what remains, and v_j . r, all for the unit atom.

    The lower triangular `basis`, the inverse of the Cholesky basis of the support's Gram matrix, makes its unit
    atoms orthonormal, and y are the parts of x along them.
    """
    k = atoms.size
    for ch in range(wide.size):
        wide[ch] = inverse[j] * v[j, ch]
    products = parts[k:]
    _products(v, atoms, wide, products[:k])
    for p in range(k):
        products[p] *= inverse[atoms[p]]
    outside, correlation = 1.0, _dot(wide, x)
    for p in range(k):
        row = basis[p]
        value = 0.0
        for q in range(p + 1):
            value += row[q] * products[q]
        parts[p] = value
        outside -= value * value
        correlation -= value * y[p]
    return outside, correlation


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _append(basis: np.ndarray, y: np.ndarray, parts: np.ndarray, outside: float, correlation: float, k: int) -> None:
    """Make what `_project` found of an atom the basis's row number k."""
    scale = 1.0 / math.sqrt(outside)
    new = basis[k]
    for q in range(k):
        new[q] = 0.0
    for p in range(k):
        row, value = basis[p], scale * parts[p]
        for q in range(p + 1):
            new[q] -= value * row[q]
    new[k], y[k] = scale, correlation * scale


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _combine(basis: np.ndarray, y: np.ndarray, gamma: np.ndarray) -> None:
    """Write the coefficients of unit atoms [k] whose parts along the basis are y [k]: the least squares."""
    for q in range(y.size):
        gamma[q] = 0.0
    for p in range(y.size):
        row, value = basis[p], y[p]
        for q in range(p + 1):
            gamma[q] += value * row[q]


@njit(cache=True, nogil=True)
def _remove(basis: np.ndarray, y: np.ndarray, gamma: np.ndarray, atoms: np.ndarray, place: int, k: int) -> None:
    """Take one of k atoms out of the basis, y, gamma and `atoms`: rotations move its share into the last row."""
    for p in range(place, k - 1):
        upper, lower = basis[p], basis[p + 1]
        length = math.hypot(upper[place], lower[place])
        cosine, sine = lower[place] / length, upper[place] / length
        for q in range(p + 2):
            left = upper[q] if q <= p else 0.0
            right = lower[q]
            upper[q], lower[q] = cosine * left - sine * right, sine * left + cosine * right
        y[p], y[p + 1] = cosine * y[p] - sine * y[p + 1], sine * y[p] + cosine * y[p + 1]
        for q in range(place, p + 1):  # column `place` goes
            upper[q] = upper[q + 1]
        gamma[p], atoms[p] = gamma[p + 1], atoms[p + 1]


@njit(cache=True, nogil=True)
def _feasible(basis: np.ndarray, y: np.ndarray, gamma: np.ndarray, atoms: np.ndarray, k: int) -> int:
    """Go from gamma [k] >= 0 towards the least squares on the support; return how many atoms remain, all positive.

    At each zero on the way the atom that reaches it leaves (Lawson & Hanson's inner loop).
    """
    goal = np.empty(k)
    while k > 0:
        _combine(basis, y[:k], goal[:k])
        length, first = 1.0, -1
        for p in range(k):
            if goal[p] <= 0:
                reach = gamma[p] / (gamma[p] - goal[p]) if gamma[p] > 0 else 0.0
                if first < 0 or reach < length:
                    length, first = reach, p
        if first < 0:
            gamma[:k] = goal[:k]
            break
        for p in range(k):
            gamma[p] += length * (goal[p] - gamma[p])
        gamma[first] = 0.0
        for p in range(k - 1, -1, -1):
            if gamma[p] <= 0:
                _remove(basis, y, gamma, atoms, p, k)
                k -= 1
    return k


@njit(cache=True, nogil=True)
def _certify(
    x: np.ndarray, v: np.ndarray, inverse: np.ndarray, length: float, atoms: np.ndarray, u: np.ndarray, r: np.ndarray
) -> tuple[float, float]:
    """Return |r| / |x| and max |v_j . r| / (|v_j| |x|) over the support, r = x - u V summed directly."""
    for ch in range(x.size):
        r[ch] = x[ch]
    for p in range(atoms.size):
        value = np.float64(u[p])
        atom = v[atoms[p]]
        for ch in range(x.size):
            r[ch] -= value * atom[ch]
    worst = 0.0
    for p in range(atoms.size):
        if u[p] != 0:
            worst = max(worst, abs(_dot(v[atoms[p]], r)) * inverse[atoms[p]])
    return math.sqrt(_dot(r, r)) / length, worst / length


@njit(cache=True, nogil=True)
def _next(
    x: np.ndarray,
    v: np.ndarray,
    inverse: np.ndarray,
    values: np.ndarray,
    error: float,
    atoms: np.ndarray,
    gamma: np.ndarray,
    basis: np.ndarray,
    y: np.ndarray,
    r: np.ndarray,
    fresh: bool,
    nonnegative: bool,
    found: np.ndarray,
    tops: np.ndarray,
    wide: np.ndarray,
    parts: np.ndarray,
) -> int:
    """Add the atom of largest correlation to the basis, and behind `atoms`; return it, or -1 if there is none.

    `values` [K] are the correlations as `_admit` leaves them, off by at most `error`; where that leaves several that
    may be the largest, those are computed in float64. `fresh`: r [C] is the residual already.
    """
    k = gamma.size
    while True:
        near = _near(values, tops, error, found)
        if near == 0:
            return -1
        j = found[0]
        if near > 1:
            if not fresh:
                _residual(x, v, inverse, atoms[:k], gamma, r)
                fresh = True
            best = -math.inf
            for q in range(near):
                value = inverse[found[q]] * _dot(v[found[q]], r)
                value = value if nonnegative else abs(value)
                if value > best:
                    best, j = value, found[q]
        outside, correlation = _project(x, v, inverse, atoms[:k], j, basis, y, wide, parts)
        if (correlation if nonnegative else abs(correlation)) <= FLOOR:
            return -1
        if outside > DEPENDENT:
            _append(basis, y, parts, outside, correlation, k)
            atoms[k] = j
            return j
        values[j] = TAKEN


@njit(cache=True, nogil=True)
def _pursue(
    x: np.ndarray,
    v: np.ndarray,
    inverse: np.ndarray,
    gram: np.ndarray,
    c: np.ndarray,
    active: np.ndarray,
    work: np.ndarray,
    gamma: np.ndarray,
    y: np.ndarray,
    basis: np.ndarray,
    r: np.ndarray,
    size: np.ndarray,
    tried: np.ndarray,
    lengths: np.ndarray,
    u: np.ndarray,
    rel_l2: np.ndarray,
    stationarity: np.ndarray,
    residual: float,
    nonnegative: bool,
) -> np.ndarray:
    """Add atoms to each active sample until it is done or needs fresh correlations; return which are done [n].

    Everything is in terms of unit samples and unit atoms. c [n, K] are the correlations of the samples if there is
    the Gram matrix, of the residuals r else.
    """
    done = np.ones(active.size, dtype=np.bool_)
    atoms, width = v.shape[0], work.shape[1]
    values, found = np.empty(atoms, dtype=np.float32), np.empty(atoms, dtype=np.int64)
    tops = np.empty((atoms + BLOCK - 1) // BLOCK, dtype=np.float32)
    unit, wide, parts = np.empty(x.shape[1]), np.empty(x.shape[1]), np.empty(2 * width)
    for n in range(active.size):
        i = active[n]
        own = 0 if gram.size else i
        for ch in range(unit.size):
            unit[ch] = x[i, ch] / lengths[i]
        k = size[i]
        rest = 1.0 - _dot(y[i, :k], y[i, :k])
        least = max(residual * residual, FLOOR * FLOOR)
        while k < width and rest > least and tried[i] < 4 * width:
            # Whatever a correlation is a sum of, in absolute value, and how many terms: these bound its rounding.
            mass, terms = math.sqrt(rest), v.shape[1]
            if gram.size and k > 0:
                _correlate(c[n], gram, work[i, :k], gamma[i, :k], values)
                mass, terms = 1.0, v.shape[1] + k
                for p in range(k):
                    mass += abs(gamma[i, p])
            else:
                values[:] = c[n]
            _admit(values, work[i, :k], nonnegative)
            # Higham 2002, Sec. 3.1; the units and the residual are rounded too.
            error = 1.01 * (terms + 8) * FLOAT32_UNIT * mass
            fresh = not gram.size and k > 0
            added = _next(unit, v, inverse, values, error, work[i], gamma[i, :k], basis[own], y[i], r[own], fresh,
                          nonnegative, found, tops, wide, parts)  # fmt: skip
            if added < 0:
                break
            k += 1
            tried[i] += 1
            if nonnegative:
                gamma[i, k - 1] = 0.0
                k = _feasible(basis[own], y[i], gamma[i], work[i], k)
            else:
                _combine(basis[own], y[i, :k], gamma[i, :k])
            size[i] = k
            rest = 1.0 - _dot(y[i, :k], y[i, :k])
            if not gram.size and k < width and rest > least and tried[i] < 4 * width:
                _residual(unit, v, inverse, work[i, :k], gamma[i, :k], r[i])
                done[n] = False
                break
        if done[n]:
            for p in range(k):
                u[i, p] = gamma[i, p] * lengths[i] * inverse[work[i, p]]
            rel_l2[i], stationarity[i] = _certify(x[i], v, inverse, lengths[i], work[i, :k], u[i, :k], r[own])
    return done


@njit(cache=True, nogil=True)
def _refit(
    x: np.ndarray,
    v: np.ndarray,
    inverse: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    values: np.ndarray,
    nonnegative: bool,
    work: np.ndarray,
    u: np.ndarray,
    rel_l2: np.ndarray,
    stationarity: np.ndarray,
) -> None:
    """Write the least squares of each sample on its support, `work` and `u` [n, width], and its certificate."""
    width = work.shape[1]
    basis, y, gamma = np.zeros((width, width)), np.zeros(width), np.zeros(width)
    unit, wide, r, parts = np.empty(x.shape[1]), np.empty(x.shape[1]), np.empty(x.shape[1]), np.empty(2 * width)
    for i in range(x.shape[0]):
        length = math.sqrt(_dot(x[i], x[i]))
        given, start = indices[indptr[i] : indptr[i + 1]], values[indptr[i] : indptr[i + 1]]
        if length == 0.0:
            continue
        for ch in range(unit.size):
            unit[ch] = x[i, ch] / length
        # Of dependent atoms those stay that give most.
        weight = np.empty(given.size)
        for p in range(given.size):
            weight[p] = -abs(start[p]) / inverse[given[p]] if inverse[given[p]] > 0 else 0.0
        k = 0
        for p in np.argsort(weight, kind="mergesort"):
            j = given[p]
            if inverse[j] == 0 or (nonnegative and start[p] <= 0):
                continue
            outside, correlation = _project(unit, v, inverse, work[i, :k], j, basis, y, wide, parts)
            if outside > DEPENDENT:
                _append(basis, y, parts, outside, correlation, k)
                work[i, k], gamma[k] = j, -weight[p] / length
                k += 1
        if nonnegative:
            k = _restricted(unit, v, inverse, given, work[i], basis, y, gamma, r, wide, parts, k)
        else:
            _combine(basis, y[:k], gamma[:k])
        for p in range(k):
            u[i, p] = gamma[p] * length * inverse[work[i, p]]
        rel_l2[i], stationarity[i] = _certify(x[i], v, inverse, length, work[i, :k], u[i, :k], r)
        before, moved = _certify(x[i], v, inverse, length, given, start, r)
        if before < rel_l2[i] and not (nonnegative and start.min() < 0):
            # Where nothing is left to gain, rounding may lose.
            work[i, : given.size], u[i, : given.size] = given, start
            rel_l2[i], stationarity[i] = before, moved


@njit(cache=True, nogil=True)
def _restricted(
    x: np.ndarray,
    v: np.ndarray,
    inverse: np.ndarray,
    given: np.ndarray,
    atoms: np.ndarray,
    basis: np.ndarray,
    y: np.ndarray,
    gamma: np.ndarray,
    r: np.ndarray,
    wide: np.ndarray,
    parts: np.ndarray,
    k: int,
) -> int:
    """Solve the non-negative least squares on the atoms `given`, from gamma [k] > 0; return how many are positive."""
    correlations = np.empty(given.size)
    for _ in range(4 * given.size + 1):
        k = _feasible(basis, y, gamma, atoms, k)
        if k == given.size:
            return k
        _residual(x, v, inverse, atoms[:k], gamma[:k], r)
        for p in range(given.size):
            correlations[p] = inverse[given[p]] * _dot(v[given[p]], r)
        while True:
            # An atom of the support has none left, up to rounding.
            best = np.argmax(correlations)
            if correlations[best] <= FLOOR:
                return k
            outside, correlation = _project(x, v, inverse, atoms[:k], given[best], basis, y, wide, parts)
            if outside > DEPENDENT and correlation > FLOOR:
                break
            correlations[best] = 0.0
        _append(basis, y, parts, outside, correlation, k)
        atoms[k], gamma[k] = given[best], 0.0
        k += 1
    return _feasible(basis, y, gamma, atoms, k)
