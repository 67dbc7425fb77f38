"""Many splits at once, on a CUDA device.

Imported where there is one, and only when it is to run.
"""

from __future__ import annotations

import numpy as np

from gigraph.hashing import mix
from gigraph.method.bisecting.tree import DIRECTION_BITS, GRID, LONGEST, SAME, Nodes, directed
from gigraph.method.cuda import LANES, Kernels

# Threads of a block, and after how many steps it is asked whether any node goes on.
THREADS = 256
LOOK = 4

KERNELS = Kernels(r"""
// As gigraph.method.bisecting.waves._fold.
__device__ double fold(double* a, int width) {
    __syncthreads();
    while (width > 1) {
        int half = (width + 1) / 2;
        FOR_THREADS(i, 0, width - half) a[i] += a[half + i];
        width = half;
        __syncthreads();
    }
    double sum = a[0];
    __syncthreads();
    return sum;
}

// A block a row: its direction on the grid, and its length.
extern "C" __global__ void unit_rows(const float* x, int channels, double grid, float* unit, double* length) {
    extern __shared__ double scratch[];
    const float* row = x + blockIdx.x * (row_t)channels;
    FOR_THREADS(c, 0, channels) scratch[c] = __dmul_rn(row[c], row[c]);
    double found = sqrt(fold(scratch, channels));
    if (threadIdx.x == 0) length[blockIdx.x] = found;
    FOR_THREADS(c, 0, channels) {
        unit[blockIdx.x * (row_t)channels + c] = (float)(rint(row[c] / (found > 0 ? found : 1.0) * grid) / grid);
    }
}

// Round c1 - c0 as waves._directions does; the squared length of its change.
template <class F> __device__ double direct(F difference, int channels, int bits, double* scratch, double* d) {
    FOR_THREADS(c, 0, channels) scratch[c] = __dmul_rn(difference(c), difference(c));
    int exponent;
    frexp(sqrt(fold(scratch, channels)), &exponent);
    double scale = ldexp(1.0, bits - exponent);
    FOR_THREADS(c, 0, channels) {
        double value = rint(difference(c) * scale) / scale;
        scratch[c] = (value - d[c]) * (value - d[c]);
        d[c] = value;
    }
    return fold(scratch, channels);
}

__device__ hash_t round_of_mix(hash_t state, hash_t word) {
    state = (state ^ word) + 0x9E3779B97F4A7C15ull;
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9ull;
    state = (state ^ (state >> 27)) * 0x94D049BB133111EBull;
    return state ^ (state >> 31);
}

// A block a node, rows order[start .. start + size - 1]: the two seed rows, and the first direction.
extern "C" __global__ void seed(
    const float* x, int channels, const row_t* order, const hash_t* keys, int slots, const row_t* start,
    const row_t* size, const hash_t* node, double same, int bits, int* slot, double* d, bool* running
) {
    extern __shared__ double scratch[];
    __shared__ hash_t least[2], hashes[32];
    __shared__ row_t chosen[2], rows[32];
    __shared__ double cosines[32];
    int s = blockIdx.x, lo = start[s], hi = lo + size[s], warp = threadIdx.x / LANES;
    hash_t none = ~0ull, first = none, second = none;
    row_t at_first = -1, at_second = -1;
    if (threadIdx.x < 2) least[threadIdx.x] = none;
    FOR_THREADS(i, lo, hi) {
        slot[i] = s + 1;
        hash_t h = round_of_mix(keys[order[i]], node[s]);
        if (h < first) { second = first; at_second = at_first; first = h; at_first = order[i]; }
        else if (h < second) { second = h; at_second = order[i]; }
    }
    __syncthreads();
    atomicMin(&least[0], first);
    __syncthreads();
    atomicMin(&least[1], first == least[0] ? second : first);
    __syncthreads();
    if (at_first >= 0 && first == least[0]) chosen[0] = at_first;
    if (at_first >= 0 && first == least[1]) chosen[1] = at_first;
    if (at_second >= 0 && second == least[1]) chosen[1] = at_second;
    __syncthreads();
    const float *a = x + chosen[0] * channels, *b = x + chosen[1] * channels;
    double alike = 0;
    FOR_THREADS(c, 0, channels) alike += (double)a[c] * (double)b[c];
    alike = block_sum(alike);
    if (alike > same) {  // the row that is least like the first one, by hash among equals
        double cosine = 2;
        hash_t hash = none;
        row_t row = -1;
        for (int i = lo + warp; i < hi; i += WARPS) {
            double found = warp_dot(x + order[i] * channels, a, channels);
            hash_t h = round_of_mix(keys[order[i]], node[s]);
            if (found < cosine || (found == cosine && h < hash)) { cosine = found; hash = h; row = order[i]; }
        }
        if (threadIdx.x % LANES == 0) { cosines[warp] = cosine; hashes[warp] = hash; rows[warp] = row; }
        __syncthreads();
        for (int i = 0; i < WARPS; ++i) {
            if (cosines[i] < cosine || (cosines[i] == cosine && hashes[i] < hash)) {
                cosine = cosines[i]; hash = hashes[i]; row = rows[i];
            }
        }
        alike = cosine;
        b = x + row * channels;
    }
    if (threadIdx.x == 0) running[s] = alike <= same;
    if (alike > same) return;
    auto difference = [&](int c) { return (double)b[c] - (double)a[c]; };
    direct(difference, channels, bits, scratch, d + s * (row_t)channels);
}

// A warp a row: the side of its node that it is on and, where that is new, the sums and numbers of both sides.
extern "C" __global__ void assign(
    const float* x, int channels, int n, const row_t* order, const int* slot, int slots, const double* d,
    const double* drift, const bool* running, int first, bool* side, double* margin, double* sums, int* count,
    int* moved
) {
    int i = (blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    if (i >= n || slot[i] == 0) return;
    row_t s = slot[i] - 1;
    if (!running[s] || (!first && margin[i] > drift[s])) return;
    const float* row = x + order[i] * channels;
    double dot = warp_dot(row, d + s * channels, channels);
    bool now = dot > 0, leaves = !first && side[i] != now, enters = first || leaves;
    __syncwarp();
    if (enters) {
        double* to = sums + (now * (row_t)slots + s) * channels;
        FOR_LANES(c, 0, channels) atomicAdd(to + c, (double)row[c]);
    }
    if (leaves) {
        double* from = sums + (!now * (row_t)slots + s) * channels;
        FOR_LANES(c, 0, channels) atomicAdd(from + c, -(double)row[c]);
    }
    if (threadIdx.x % LANES == 0) {
        margin[i] = fabs(dot) + drift[s];
        side[i] = now;
        if (enters) atomicAdd(count + now * slots + s, 1);
        if (leaves) { atomicAdd(count + !now * slots + s, -1); atomicAdd(moved + s, 1); }
    }
}

// A block a node: whether it goes on and, if so, its new direction and how far that may have moved a projection.
extern "C" __global__ void redirect(
    int channels, int slots, int first, int bits, double longest, const double* sums, const int* count, int* moved,
    bool* running, double* d, double* drift, int* alive
) {
    extern __shared__ double scratch[];
    int s = blockIdx.x;
    if (!running[s]) return;
    bool on = (first || moved[s] > 0) && count[s] > 0 && count[slots + s] > 0;
    __syncthreads();
    if (threadIdx.x == 0) { running[s] = on; moved[s] = 0; }
    if (!on) return;
    const double *s0 = sums + s * (row_t)channels, *s1 = sums + (slots + s) * (row_t)channels;
    FOR_THREADS(c, 0, channels) scratch[c] = __dmul_rn(s0[c], s0[c]);
    double length0 = sqrt(fold(scratch, channels));
    FOR_THREADS(c, 0, channels) scratch[c] = __dmul_rn(s1[c], s1[c]);
    double length1 = sqrt(fold(scratch, channels));
    if (length0 == 0) length0 = 1;
    if (length1 == 0) length1 = 1;
    auto difference = [&](int c) { return s1[c] / length1 - s0[c] / length0; };
    double change = direct(difference, channels, bits, scratch, d + s * (row_t)channels);
    if (threadIdx.x == 0) { drift[s] += longest * sqrt(change); atomicAdd(alive, 1); }
}

// A thread a row: the rows of nodes that were split, side 0 first.
extern "C" __global__ void part(
    int n, const row_t* order, const int* slot, const bool* side, int slots, const row_t* start, const int* count,
    int* filled, row_t* parted
) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int s = slot[i] - 1;
    row_t to = i;
    if (s >= 0 && count[s] > 0 && count[slots + s] > 0) {
        int place = atomicAdd(filled + side[i] * slots + s, 1);
        to = start[s] + (side[i] ? count[s] : 0) + place;
    }
    parted[to] = order[i];
}
""")


def bisect_cuda(
    x: np.ndarray, ids: np.ndarray, k: int, seed: int, max_iter: int
) -> tuple[Nodes, np.ndarray, np.ndarray]:
    """Do as `gigraph.method.bisecting.waves.bisect_waves`, with one kernel for each step of a wave.

    A node's rows are neighbours in `order`.
    """
    import cupy

    channels, shared = x.shape[1], 8 * x.shape[1]
    unit, lengths = cupy.empty(x.shape, dtype=np.float32), cupy.empty(len(x), dtype=np.float64)
    unit.set(np.ascontiguousarray(x, dtype=np.float32))
    KERNELS.launch("unit_rows", len(x), THREADS, unit, channels, GRID, unit, lengths, shared=shared)
    rows = directed(lengths.get())
    nodes, count = Nodes(len(rows), seed), len(rows)
    order, spare, keys = cupy.asarray(rows), cupy.empty(count, dtype=np.int64), cupy.asarray(mix(ids))
    slot, side = cupy.empty(count, dtype=np.int32), cupy.empty(count, dtype=bool)
    margin = cupy.empty(count, dtype=np.float64)
    while len(wave := nodes.unsplit(k - 1)):
        slots = len(wave)
        start, size = cupy.asarray(nodes.start[wave]), cupy.asarray(nodes.size[wave])
        d, running = cupy.empty((slots, channels), dtype=np.float64), cupy.empty(slots, dtype=bool)
        sums, drift = cupy.zeros((2 * slots, channels), dtype=np.float64), cupy.zeros(slots, dtype=np.float64)
        on_side, filled = cupy.zeros((2, slots), dtype=np.int32), cupy.zeros((2, slots), dtype=np.int32)
        moved, alive = cupy.zeros(slots, dtype=np.int32), cupy.zeros(max_iter, dtype=np.int32)
        slot.fill(0)
        KERNELS.launch(
            "seed", slots, THREADS, unit, channels, order, keys, slots, start, size, cupy.asarray(nodes.key[wave]),
            SAME, DIRECTION_BITS, slot, d, running, shared=shared,
        )  # fmt: skip
        for step in range(max_iter):
            if step:
                KERNELS.launch(
                    "redirect", slots, THREADS, channels, slots, step == 1, DIRECTION_BITS, LONGEST, sums, on_side,
                    moved, running, d, drift, alive[step:], shared=shared,
                )  # fmt: skip
                if step % LOOK == 0 and not int(alive[step]):
                    break
            KERNELS.launch(
                "assign", -(-count * LANES // THREADS), THREADS, unit, channels, count, order, slot, slots, d,
                drift, running, step == 0, side, margin, sums, on_side, moved,
            )  # fmt: skip
        KERNELS.launch(
            "part", -(-count // THREADS), THREADS, count, order, slot, side, slots, start, on_side, filled, spare
        )
        order, spare = spare, order
        first = on_side.get()
        nodes.split(wave, np.where(first.all(axis=0), first[0], 0))
    place = np.zeros(len(x), dtype=np.int64)
    place[rows] = np.arange(count)
    return nodes, rows, nodes.deepest(place[order.get()])
