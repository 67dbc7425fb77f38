"""Working sets sample by sample, compiled.

Imported where numba is there, and only when it is to run.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gigraph.method.compiler import read_only
from gigraph.method.lasso.codes import Codes, compressed
from gigraph.method.lasso.rounding import longest
from gigraph.threads import threads_allowed

GRAM_BYTES = 2**30
"""Most memory that the K x K products of the concept vectors may take; beyond it, blocks are formed as needed."""
# The Gram matrix is made once there is a sample for each so many atoms.
WORTH = 12

# numba compiles globals in, and only a change of this very file renews its cache on disk: so what kernels read stands
# here, be it once more.
FLOAT32_UNIT = 2.0**-24
# Inside a working set the optimality conditions are met to this fraction of lambda.
INNER = 1e-7
# A pivot below this fraction of its diagonal is noise: Gram blocks carry float32 rounding.
SINGULAR = 3e-6
FIRST_ATOMS = 5
# Fewest atoms among which working sets are grown before all K are looked at again, and how close to lambda.
CANDIDATES = 128
NEAR = 0.5
MAX_INNER = 50
# Working sets after which correlations that the Gram matrix kept up to date are computed afresh.
GRAM_ROUNDS = 8
SWEEPS = 3

_ANY_ORDER = {"reassoc", "contract"}


class Compiled:
    """Working sets sample by sample; batches are spread over threads (see `gigraph.method.lasso.solver.Kernel`)."""

    threaded = True

    def __init__(self, v: np.ndarray, memory: int, signed: bool = True) -> None:
        self.v, self.memory, self.signed = read_only(v), memory, signed
        self.longest = longest(v)
        self.gram = read_only(np.zeros((0, 0), dtype=np.float32))
        self.expected = 0

    def expect(self, samples: int) -> None:
        """Prepare for so many more samples; once there are enough, the products of atoms save more than they cost."""
        self.expected += samples
        fits = len(self.v) ** 2 * 4 <= min(GRAM_BYTES, self.memory // 2)
        if fits and not self.gram.size and self.expected * WORTH >= len(self.v):
            self.gram = read_only(self.v @ self.v.T)

    @property
    def batch(self) -> int:
        """So few samples that their correlations stay in the caches, so many that the product runs at full speed."""
        left = max(0, self.memory - self.gram.nbytes) // threads_allowed()
        return max(16, min(512, left // (4 * len(self.v) + 40 * self.v.shape[1] + 1)))

    def solve(self, x: np.ndarray, lam: np.ndarray, tol: float, max_rounds: int) -> Codes:
        """Solve one batch x [B, C] with lam [B]."""
        samples = len(x)
        width = min(len(self.v), self.v.shape[1] + FIRST_ATOMS)
        work, u = np.zeros((samples, width), dtype=np.int32), np.zeros((samples, width), dtype=np.float32)
        size, tried = np.zeros(samples, dtype=np.int64), np.zeros(samples, dtype=np.int64)
        gap, rel_l2 = np.zeros(samples), np.zeros(samples)
        active = np.arange(samples)
        r = x.astype(np.float64)
        correlations = np.empty((samples, len(self.v)), dtype=np.float32)
        while len(active):
            c = np.matmul(r.astype(np.float32), self.v.T, out=correlations[: len(active)])
            state = (work, u, size, tried, active, gap, rel_l2)
            done = _advance(
                read_only(x), self.v, self.gram, c, r, lam, *state, tol, self.longest, max_rounds, self.signed
            )
            active, r = active[~done], r[~done]
        used = max(1, int(size.max(initial=0)))
        u = np.where(np.arange(used) < size[:, None], u[:, :used], 0)
        return compressed(work[:, :used], u, rel_l2, gap=gap)


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.size):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(cache=True, nogil=True, fastmath=True)
def _strength(value: float, signed: bool) -> float:
    """Return how far a correlation pulls a coefficient from zero: |value|, or its positive part."""
    return abs(value) if signed else max(value, value - value)  # a zero of its own type


@njit(cache=True, nogil=True, fastmath=True)
def _largest(values: np.ndarray, signed: bool) -> float:
    """Return the largest strength of the values, 0 for none; all are finite."""
    top = values.dtype.type(0)
    if signed:
        for j in range(values.size):
            top = max(top, abs(values[j]))
    else:
        for j in range(values.size):
            top = max(top, values[j])
    return top


@njit(cache=True, nogil=True)
def _count(values: np.ndarray, bar: float, signed: bool) -> int:
    """Return how many of the values' strengths reach the bar."""
    count = 0
    for j in range(values.size):
        count += _strength(values[j], signed) >= bar
    return count


@njit(cache=True, nogil=True)
def _certificate(
    v: np.ndarray,
    r: np.ndarray,
    c: np.ndarray,
    error: float,
    lam: float,
    u: np.ndarray,
    exact: np.ndarray,
    place: np.ndarray,
    rr: float,
    xr: float,
    longest: float,
    signed: bool,
) -> float:
    """Return an upper bound on the duality gap; `exact` holds c on the support, at `place` [K]."""
    rounding = v.shape[1] * 2.0**-52 * longest * math.sqrt(rr)
    top = lam
    for j in range(c.size):
        if _strength(np.float64(c[j]), signed) >= lam - error:
            value = exact[place[j]] if place[j] >= 0 else _dot(v[j], r)
            top = max(top, _strength(value, signed) + rounding)
    s = 1.0 if top <= lam else lam / top
    if rr > 0:
        s = max(0.0, min(s, xr / rr))
    gap = 0.5 * (1 - s) * (1 - s) * rr
    for p in range(u.size):
        gap += max(0.0, abs(u[p]) * lam - s * u[p] * exact[p])
    return gap


@njit(cache=True, nogil=True)
def _sweep(gram: np.ndarray, g: np.ndarray, u: np.ndarray, lam: float, signed: bool) -> None:
    """Minimise over one coefficient after the other; g = V_W r is kept."""
    w = u.size
    for j in range(w):
        curvature = gram[j, j]
        if curvature <= 0:
            continue
        z = u[j] * curvature + g[j]
        if z > lam:
            new = (z - lam) / curvature
        elif signed and z < -lam:
            new = (z + lam) / curvature
        else:
            new = 0.0
        change = new - u[j]
        if change != 0:
            u[j] = new
            for i in range(w):
                g[i] -= gram[j, i] * change


@njit(cache=True, nogil=True)
def _move(gram: np.ndarray, g: np.ndarray, u: np.ndarray, support: np.ndarray, step: np.ndarray, length: float) -> None:
    for p in range(step.size):
        j = support[p]
        change = step[p] * length
        u[j] += change
        for i in range(u.size):
            g[i] -= gram[j, i] * change


@njit(cache=True, nogil=True)
def _by_size(u: np.ndarray, support: np.ndarray) -> int:
    """Write the places where u is not zero, the largest first; return how many."""
    n = 0
    for j in range(u.size):
        if u[j] != 0:
            p = n
            while p > 0 and abs(u[support[p - 1]]) < abs(u[j]):
                support[p] = support[p - 1]
                p -= 1
            support[p] = j
            n += 1
    return n


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _factorise(gram: np.ndarray, support: np.ndarray, n: int, first: int, factor: np.ndarray) -> int:
    """Write the Cholesky factor's rows from `first` on; return the row that depends on those before, or n."""
    for p in range(first, n):
        j = support[p]
        pivot = gram[j, j]
        for q in range(p):
            total = gram[j, support[q]]
            for m in range(q):
                total -= factor[p, m] * factor[q, m]
            total /= factor[q, q]
            factor[p, q] = total
            pivot -= total * total
        if pivot <= SINGULAR * gram[j, j]:
            return p
        factor[p, p] = math.sqrt(pivot)
    return n


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _substitute(factor: np.ndarray, step: np.ndarray) -> None:
    """Solve L L^T step = step in place."""
    for p in range(step.size):
        total = step[p]
        for m in range(p):
            total -= factor[p, m] * step[m]
        step[p] = total / factor[p, p]
    for p in range(step.size - 1, -1, -1):
        step[p] /= factor[p, p]
        for m in range(p):
            step[m] -= factor[p, m] * step[p]


@njit(cache=True, nogil=True)
def _newton(gram: np.ndarray, g: np.ndarray, u: np.ndarray, lam: float) -> None:
    """Solve for the coefficients that are not zero, keeping signs; one that would change becomes zero.

    Where the support's atoms are dependent, the objective is linear along the dependence: it is followed
    downhill to the first zero. Small coefficients come last in the factor, since they are the first to go:
    the rows before them stay.
    """
    support = np.empty(u.size, dtype=np.int64)
    n = _by_size(u, support)
    factor = np.empty((n, n))
    step = np.empty(n)
    valid = 0
    while True:
        count = _factorise(gram, support, n, valid, factor)
        dependent = count < n
        for p in range(count):
            j = support[p]
            step[p] = gram[j, support[count]] if dependent else g[j] - math.copysign(lam, u[j])
        _substitute(factor, step[:count])
        longest = 1.0
        valid = count
        if dependent:
            slope = -g[support[count]] + math.copysign(lam, u[support[count]])
            for p in range(count):
                slope += step[p] * (g[support[p]] - math.copysign(lam, u[support[p]]))
            sign = -1.0 if slope > 0 else 1.0
            for p in range(count):
                step[p] *= -sign
            step[count] = sign
            count += 1
            longest = np.inf
        first, reach = -1, longest
        for p in range(count):
            j = support[p]
            if step[p] * u[j] < 0 and -u[j] / step[p] <= reach:
                first, reach = p, -u[j] / step[p]
        if first < 0 and dependent:
            return
        _move(gram, g, u, support, step[:count], reach)
        if first < 0:
            return
        u[support[first]] = 0.0
        for p in range(first, n - 1):
            support[p] = support[p + 1]
        n -= 1
        valid = min(valid, first)


@njit(cache=True, nogil=True)
def _solve_block(gram: np.ndarray, g: np.ndarray, u: np.ndarray, lam: float, signed: bool) -> None:
    """Solve the lasso on a working set: gram [w, w]; g [w] = V_W r and u [w] are updated in place."""
    for _ in range(200):
        for _ in range(SWEEPS):
            _sweep(gram, g, u, lam, signed)
        _newton(gram, g, u, lam)
        worst = 0.0
        for j in range(u.size):
            if u[j] != 0:
                worst = max(worst, abs(g[j] - math.copysign(lam, u[j])))
            elif gram[j, j] > 0:
                worst = max(worst, _strength(g[j], signed) - lam)
        if worst <= INNER * lam:
            return


@njit(cache=True, nogil=True)
def _strongest(magnitude: np.ndarray, floor: float, room: int, found: np.ndarray, values: np.ndarray) -> int:
    """Write at most `room` places, about those of largest magnitude > floor; return how many.

    `found` and `values` are scratch, longer by one than `magnitude`. Of the places above the floor, the interval
    of the bar is halved until between half of and all the room is taken.
    """
    n = 0
    for j in range(magnitude.size):
        found[n], values[n] = j, magnitude[j]
        n += magnitude[j] > floor
    if n <= room:
        return n
    low, bar = np.float64(floor), np.float64(_largest(values[:n], True))
    for _ in range(16):
        middle = magnitude.dtype.type(0.5 * (low + bar))
        count = 0
        for q in range(n):
            count += values[q] >= middle
        if count > room:
            low = np.float64(middle)
        else:
            bar = np.float64(middle)
            if 2 * count > room:
                break
    taken = 0
    for q in range(n):
        if values[q] >= bar and taken < room:  # of equal ones, more than fit may reach it
            found[taken] = found[q]
            taken += 1
    return taken


@njit(cache=True, nogil=True)
def _residual(x: np.ndarray, v: np.ndarray, work: np.ndarray, u: np.ndarray, r: np.ndarray) -> None:
    """Write r = x - u V [C] float64, summed directly."""
    for ch in range(x.size):
        r[ch] = x[ch]
    for p in range(work.size):
        value = np.float64(u[p])
        atom = v[work[p]]
        for ch in range(x.size):
            r[ch] -= value * atom[ch]


@njit(cache=True, nogil=True)
def _advance(
    x: np.ndarray,
    v: np.ndarray,
    gram: np.ndarray,
    c: np.ndarray,
    r: np.ndarray,
    lam: np.ndarray,
    work: np.ndarray,
    u: np.ndarray,
    size: np.ndarray,
    tried: np.ndarray,
    active: np.ndarray,
    gap: np.ndarray,
    rel_l2: np.ndarray,
    tol: float,
    longest: float,
    max_rounds: int,
    signed: bool,
) -> np.ndarray:
    """Improve each active sample until it is certified or needs fresh correlations; return which are done [n].

    c [n, K] are the correlations of r [n, C]. With the Gram matrix at hand they are kept up to date by its rows, and
    their error bound with them; without it one working set is all that they are good for. Unless `signed`,
    coefficients are non-negative.
    """
    done = np.zeros(active.size, dtype=np.bool_)
    place = np.full(v.shape[0], -1, dtype=np.int32)
    magnitude = np.empty(v.shape[0], dtype=np.float32)
    wild, values = np.empty(v.shape[0] + 1, dtype=np.int64), np.empty(v.shape[0] + 1, dtype=np.float32)
    exact = np.empty(work.shape[1])
    for n in range(active.size):
        i = active[n]
        penalty = lam[i]
        xx = _dot(x[i], x[i])
        rr = _dot(r[n], r[n])
        # Whatever c is a sum of, in absolute value, and how many terms it has: these bound its rounding errors.
        mass, terms = math.sqrt(rr), v.shape[1]
        for step in range(GRAM_ROUNDS):
            error = 1.01 * (terms + 5) * FLOAT32_UNIT * longest * mass
            xr = _dot(x[i], r[n])
            # The same formula in float32 says whether the certificate is worth its while.
            top = np.float64(_largest(c[n], signed))
            s = 1.0 if top <= penalty else penalty / top
            rough = 0.5 * (1 - s) * (1 - s) * rr
            primal = 0.5 * rr
            for p in range(size[i]):
                exact[p] = _dot(v[work[i, p]], r[n])
                primal += abs(u[i, p]) * penalty
                rough += abs(u[i, p]) * penalty - s * u[i, p] * exact[p]
            last = tried[i] == max_rounds
            if last or rough <= tol * primal:
                if step > 0 and _count(c[n], penalty - error, signed) * 8 > v.shape[0]:
                    break  # fresh correlations cost less than so many exact ones
                for p in range(size[i]):
                    place[work[i, p]] = p
                some = u[i, : size[i]]
                bound = _certificate(v, r[n], c[n], error, penalty, some, exact, place, rr, xr, longest, signed)
                for p in range(size[i]):
                    place[work[i, p]] = -1
                gap[i] = bound / primal if primal > 0 else 0.0
                rel_l2[i] = math.sqrt(rr / xx) if xx > 0 else 0.0
                done[n] = last or gap[i] <= tol
                if done[n]:
                    break

            # Candidates: the support, and the atoms that correlate most with the residual.
            for j in range(magnitude.size):
                magnitude[j] = _strength(c[n, j], signed)
            for p in range(size[i]):
                magnitude[work[i, p]] = 0
            if gram.size:
                more = _strongest(magnitude, NEAR * penalty, max(CANDIDATES, size[i], len(v) // 32), wild, values)
            else:
                more = _strongest(magnitude, penalty, max(FIRST_ATOMS, size[i]), wild, values)
            m = size[i] + more
            atoms = np.empty(m, dtype=np.int64)
            g, found = np.empty(m), np.zeros(m)
            for p in range(size[i]):
                atoms[p] = work[i, p]
                g[p], found[p] = exact[p], u[i, p]
            for p in range(more):
                atoms[size[i] + p] = wild[p]
                g[size[i] + p] = c[n, wild[p]]
            if gram.size:
                _grow(gram, atoms, g, found, size[i], penalty, signed)
            else:
                block = np.empty((m, m))
                for p in range(m):
                    for q in range(p + 1):
                        block[p, q] = _dot(v[atoms[p]], v[atoms[q]])
                        block[q, p] = block[p, q]
                _solve_block(block, g, found, penalty, signed)

            tried[i] += 1
            kept = 0
            for p in range(m):
                value = np.float32(found[p]) if kept < work.shape[1] else np.float32(0)
                before = u[i, p] if p < size[i] else np.float32(0)
                change = np.float32(value - before)
                if gram.size and change != 0:
                    _subtract(c[n], gram[atoms[p]], change)
                    mass += longest * abs(np.float64(value) - np.float64(before))
                    terms += 1
                # An earlier place of u has been read already: kept <= p.
                if value != 0:
                    work[i, kept] = atoms[p]
                    u[i, kept] = value
                    kept += 1
            size[i] = kept
            _residual(x[i], v, work[i, :kept], u[i, :kept], r[n])
            if not gram.size:
                break
            rr = _dot(r[n], r[n])
    return done


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER)
def _subtract(c: np.ndarray, row: np.ndarray, change: np.float32) -> None:
    for j in range(c.size):
        c[j] -= change * row[j]


@njit(cache=True, nogil=True)
def _grow(
    gram: np.ndarray, atoms: np.ndarray, g: np.ndarray, u: np.ndarray, size: int, lam: float, signed: bool
) -> None:
    """Solve the lasso on the candidates `atoms` [m] by growing working sets; the first `size` are the support.

    g [m], the correlations with the residual, and u [m] are updated in place.
    """
    m = atoms.size
    chosen, wild, values = np.empty(m, dtype=np.int64), np.empty(m + 1, dtype=np.int64), np.empty(m + 1)
    block_u, block_g = np.empty(m), np.empty(m)
    known = np.zeros(m, dtype=np.bool_)
    rows = np.empty((m, m), dtype=np.float32)
    magnitude = np.empty(m)
    w = size
    for p in range(size):
        chosen[p] = p
    for step in range(MAX_INNER):
        for q in range(m):
            magnitude[q] = _strength(g[q], signed)
        for p in range(w):
            magnitude[chosen[p]] = 0
        taken = _strongest(magnitude, lam * (1 + INNER), max(FIRST_ATOMS, w), wild, values)
        if taken == 0 and step > 0:
            return
        for p in range(taken):
            chosen[w + p] = wild[p]
        w += taken
        block = np.empty((w, w))
        for p in range(w):
            j = chosen[p]
            if not known[j]:
                known[j] = True
                row = gram[atoms[j]]
                for q in range(m):
                    rows[j, q] = row[atoms[q]]
            for q in range(p + 1):
                block[p, q] = rows[j, chosen[q]]
                block[q, p] = block[p, q]
            block_u[p], block_g[p] = u[j], g[j]
        _solve_block(block, block_g[:w], block_u[:w], lam, signed)
        kept = 0
        for p in range(w):
            j = chosen[p]
            change = block_u[p] - u[j]
            if change != 0:
                u[j] = block_u[p]
                for q in range(m):
                    g[q] -= change * rows[j, q]
            if u[j] != 0:
                chosen[kept] = j
                kept += 1
        w = kept
