"""Working sets of many samples at once, in torch and by CUDA kernels.

Imported where there is a CUDA device, and only when it is to run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gigraph.method.cuda import LANES, Kernels
from gigraph.method.lasso.batched import INNER, SWEEPS, Batched

# The products of atoms are made once there is a sample for each so many atoms.
WORTH = 12
# A pivot below this fraction of its diagonal is noise: the products carry float32 rounding.
SINGULAR = 3e-6
# Another look at all K costs more than a larger working set: at least so many atoms, or K over so many.
FIRST_ATOMS_CUDA = 32
SHARE_CUDA = 128
# Working sets in hand, the largest that fits a block's shared memory, and the largest support whose factor lies there
# too.
BLOCKS = 1056
WIDEST = 4800
SMALL = 32

KERNELS = Kernels(r"""
// A warp a pair: v[atom] . r[row], summed in float64.
extern "C" __global__ void dots(
    const float* v, const double* r, int channels, row_t n, const row_t* atom, const row_t* row, double* out
) {
    row_t i = ((row_t)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    if (i >= n) return;
    double sum = warp_dot(v + atom[i] * channels, r + row[i] * channels, channels);
    if (threadIdx.x % LANES == 0) out[i] = sum;
}

// A block a sample: r = x - u V over its working set.
extern "C" __global__ void residuals(
    const float* v, const double* x, int channels, int width, const row_t* work, const float* u, double* r
) {
    row_t i = blockIdx.x;
    FOR_THREADS(c, 0, channels) {
        double sum = x[i * channels + c];
        for (int p = 0; p < width; ++p) {
            double value = u[i * width + p];
            if (value != 0) sum -= value * v[work[i * width + p] * channels + c];
        }
        r[i * channels + c] = sum;
    }
}

// A block a sample: its support, then about the strongest of the other atoms with |c| > lambda, in order.
extern "C" __global__ void candidates(
    float* c, int columns, const row_t* on, const row_t* active, const double* lam, const row_t* work,
    const int* size, int width, int room, int w, row_t* chosen, int* count
) {
    __shared__ int counts[1024];
    row_t row = active[on[blockIdx.x]], *found = chosen + blockIdx.x * (row_t)w;
    float* strength = c + on[blockIdx.x] * columns;
    int known = size[row];
    room = min(max(room, known), w - known);
    FOR_THREADS(p, 0, known) {
        found[p] = work[row * width + p];
        strength[found[p]] = 0;
    }
    __syncthreads();
    double low = lam[row], bar = 0, above = 0;
    FOR_THREADS(j, 0, columns) {
        bar = fmax(bar, (double)fabsf(strength[j]));
        above += fabsf(strength[j]) > low;
    }
    bar = block_max(bar);
    above = block_sum(above);
    if (above <= room) {
        bar = -1;
    } else {
        for (int step = 0; step < 16; ++step) {
            double middle = (float)(0.5 * (low + bar)), n = 0;
            FOR_THREADS(j, 0, columns) n += fabsf(strength[j]) >= middle;
            n = block_sum(n);
            if (n > room) { low = middle; continue; }
            bar = middle;
            if (2 * n > room) break;
        }
    }
    // Each thread has a stretch of the atoms.
    int each = (columns + blockDim.x - 1) / blockDim.x, from = min(columns, each * (int)threadIdx.x);
    int to = min(columns, from + each), mine = 0;
    double least = lam[row];
    for (int j = from; j < to; ++j) mine += fabsf(strength[j]) > least && fabsf(strength[j]) >= bar;
    counts[threadIdx.x] = mine;
    __syncthreads();
    int before = 0, all = 0;
    for (int i = 0; i < blockDim.x; ++i) {
        if (i < threadIdx.x) before += counts[i];
        all += counts[i];
    }
    for (int j = from; j < to && before < room; ++j) {  // of equal ones, more than fit may reach the bar
        if (fabsf(strength[j]) > least && fabsf(strength[j]) >= bar) found[known + before++] = j;
    }
    if (threadIdx.x == 0) count[blockIdx.x] = known + min(all, room);
}

struct Block {
    float* gram;      // [w, w]
    int w;
    double lam;
    double* g;        // [w], V_W r
    double* u;        // [w]
    double* before;   // [w], u as Newton's method finds it
    double* step;     // [w + 1]
    float* diagonal;  // [w]
    int* support;     // [w], the places where u is not zero
    int* slot;        // [w], and the rows of the factor that are theirs
    double* factor;   // Cholesky's, column by column; row `extra` is the right side's
    int stride, extra;
};

__device__ void sweep(const Block& b, bool either) {
    for (int j = 0; j < b.w; ++j) {
        double curvature = b.diagonal[j];
        if (curvature <= 0) continue;
        double old = b.u[j], z = old * curvature + b.g[j];
        double now = z > b.lam ? (z - b.lam) / curvature : either && z < -b.lam ? (z + b.lam) / curvature : 0.0;
        if (now == old) continue;
        __syncthreads();
        if (threadIdx.x == 0) b.u[j] = now;
        FOR_THREADS(i, 0, b.w) b.g[i] -= b.gram[j * b.w + i] * (now - old);
        __syncthreads();
    }
}

// The places where u is not zero, the largest first; how many there are.
__device__ int by_size(const Block& b) {
    double found = 0;
    FOR_THREADS(j, 0, b.w) {
        double size = fabs(b.u[j]);
        if (size == 0) continue;
        int place = 0;
        for (int k = 0; k < b.w; ++k) {
            double other = fabs(b.u[k]);
            place += other > size || (other == size && k < j);
        }
        b.support[place] = j;
        found += 1;
    }
    return (int)block_sum(found);
}

__device__ double pull(const Block& b, int j) { return b.g[j] - copysign(b.lam, b.before[j]); }

// The columns of the factor from `valid` on, by the n rows and the right side's; the row that depends on those before
// it, or n.
__device__ int factorise(const Block& b, int valid, int n, double singular) {
    __shared__ double pivot;
    for (int q = valid; q < n; ++q) {
        int j = b.support[q];
        const double* mine = b.factor + b.slot[q];
        FOR_THREADS(p, q, n + 1) {
            const double* other = b.factor + (p < n ? b.slot[p] : b.extra);
            double sum[8] = {p < n ? (double)b.gram[j * b.w + b.support[p]] : pull(b, j)};
            int m = 0;
            for (; m + 8 <= q; m += 8) {
                for (int k = 0; k < 8; ++k) sum[k] -= other[(m + k) * b.stride] * mine[(m + k) * b.stride];
            }
            for (; m < q; ++m) sum[0] -= other[m * b.stride] * mine[m * b.stride];
            b.step[p] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
            if (p == q) pivot = b.step[p];
        }
        __syncthreads();
        if (pivot <= singular * b.diagonal[j]) return q;
        double root = sqrt(pivot);
        FOR_THREADS(p, q, n + 1) b.factor[q * b.stride + (p < n ? b.slot[p] : b.extra)] = b.step[p] / root;
        __syncthreads();
    }
    return n;
}

// Take row `first` out of `count` columns of the factor; n rows are left. Rotations make it triangular again.
__device__ void remove(const Block& b, int first, int count, int n) {
    if (threadIdx.x == 0) {
        for (int p = first; p < n; ++p) {
            b.support[p] = b.support[p + 1];
            b.slot[p] = b.slot[p + 1];
        }
    }
    __syncthreads();
    for (int q = first; q + 1 < count; ++q) {
        double *left = b.factor + q * b.stride, *right = left + b.stride;
        double x = left[b.slot[q]], y = right[b.slot[q]], length = sqrt(x * x + y * y);
        double cosine = x / length, sine = y / length;
        __syncthreads();
        FOR_THREADS(p, q, n + 1) {
            int row = p < n ? b.slot[p] : b.extra;
            double a = left[row], c = right[row];
            left[row] = cosine * a + sine * c;
            right[row] = cosine * c - sine * a;
        }
        __syncthreads();
    }
}

// Solve L^T step = scale times a row of L.
__device__ void substitute(const Block& b, int row, int n, double scale) {
    __shared__ double tile[LANES][LANES + 1];
    int lane = threadIdx.x % LANES;
    for (int low = (n - 1) / LANES * LANES; low >= 0 && n > 0; low -= LANES) {
        int high = min(n, low + LANES);
        for (int p = low + threadIdx.x / LANES; p < high; p += WARPS) {
            const double* column = b.factor + p * b.stride;
            double sum = 0;
            FOR_LANES(q, high, n) sum += column[b.slot[q]] * b.step[q];
            sum = warp_sum(sum);
            if (lane == 0) b.step[p] = scale * column[row] - sum;
            if (low + lane < high) tile[p - low][lane] = column[b.slot[low + lane]];
        }
        __syncthreads();
        if (threadIdx.x < LANES) {
            double value = low + lane < high ? b.step[low + lane] : 0;
            double inverse = low + lane < high ? 1 / tile[lane][lane] : 0;
            for (int q = high - low - 1; q >= 0; --q) {
                double x = __shfl_sync(0xffffffffu, value * inverse, q);
                if (lane < q) value -= tile[lane][q] * x;
                if (lane == q) value = x;
            }
            if (low + lane < high) b.step[low + lane] = value;
        }
        __syncthreads();
    }
}

__device__ void newton(Block& b, double singular) {
    FOR_THREADS(j, 0, b.w) b.before[j] = b.u[j];
    int n = by_size(b), valid = 0;
    b.extra = n;
    FOR_THREADS(p, 0, n) b.slot[p] = p;
    __syncthreads();
    double left = 1;  // what is left of the pull after each step
    while (true) {
        int count = factorise(b, valid, n, singular), steps = count;
        bool dependent = count < n;
        substitute(b, dependent ? b.slot[count] : b.extra, count, dependent ? 1 : left);
        double reach = 1;
        if (dependent) {  // follow the dependence downhill, to the first zero
            double slope = 0;
            FOR_THREADS(p, 0, count) slope += b.step[p] * pull(b, b.support[p]);
            slope = left * (block_sum(slope) - pull(b, b.support[count]));
            double sign = slope > 0 ? -1 : 1;
            FOR_THREADS(p, 0, count) b.step[p] *= -sign;
            if (threadIdx.x == 0) b.step[count] = sign;
            steps += 1;
            reach = FAR;
            __syncthreads();
        }
        double mine = reach;
        int at = -1;
        FOR_THREADS(p, 0, steps) {
            double value = b.u[b.support[p]];
            if (b.step[p] * value < 0 && -value / b.step[p] <= mine) { mine = -value / b.step[p]; at = p; }
        }
        double nearest = -block_max(at < 0 ? -FAR : -mine);
        int first = (int)block_max(at >= 0 && mine == nearest ? at : -1);
        if (first >= 0) reach = nearest;
        else if (dependent) break;
        FOR_THREADS(p, 0, steps) b.u[b.support[p]] = p == first ? 0 : b.u[b.support[p]] + b.step[p] * reach;
        __syncthreads();
        if (first < 0) break;
        if (!dependent) left *= 1 - reach;
        n -= 1;
        remove(b, first, count, n);
        valid = first < count ? count - 1 : count;
    }
    FOR_THREADS(i, 0, b.w) {
        double sum = 0;
        for (int j = 0; j < b.w; ++j) {
            double change = b.u[j] - b.before[j];
            if (change != 0) sum += b.gram[j * b.w + i] * change;
        }
        b.g[i] -= sum;
    }
    __syncthreads();
}

// A block a sample, one after the other: the lasso on its working set `chosen`, by the steps of compiled._solve_block.
extern "C" __global__ void improve(
    const float* v, int channels, const float* products, int columns, const double* r, const row_t* on,
    const row_t* active, int n, const double* lam, const row_t* chosen, const int* count, int w, double inner,
    double singular, int sweeps, int small, double* space, int* next, row_t zero, row_t* work, float* u, int* size,
    int width, int either
) {
    extern __shared__ double shared[];
    __shared__ int ticket;
    Block b;
    b.g = shared;
    b.u = b.g + w;
    b.before = b.u + w;
    b.step = b.before + w;
    double* near = b.step + w + 1;  // [small, small + 1]
    b.diagonal = (float*)(near + small * (small + 1));
    b.support = (int*)(b.diagonal + w);
    b.slot = b.support + w;
    double* far = space + blockIdx.x * ((row_t)w * (w + 1) + (w * (row_t)w + 1) / 2);  // [w, w + 1], and floats [w, w]
    b.gram = (float*)(far + (row_t)w * (w + 1));
    int warp = threadIdx.x / LANES;
    while (true) {
        if (threadIdx.x == 0) ticket = atomicAdd(next, 1);
        __syncthreads();
        int i = ticket;
        __syncthreads();
        if (i >= n) return;
        row_t row = active[on[i]];
        const row_t* atoms = chosen + i * (row_t)w;
        b.w = count[i];
        b.lam = lam[row];
        int known = size[row];
        for (int p = warp; p < b.w; p += WARPS) {
            double dot = warp_dot(v + atoms[p] * channels, r + on[i] * channels, channels);
            if (threadIdx.x % LANES == 0) b.g[p] = dot;
            if (products) {
                FOR_LANES(q, 0, b.w) b.gram[p * b.w + q] = products[atoms[p] * columns + atoms[q]];
                continue;
            }
            for (int q = 0; q <= p; ++q) {
                float product = warp_dot(v + atoms[p] * channels, v + atoms[q] * channels, channels);
                if (threadIdx.x % LANES == 0) b.gram[p * b.w + q] = b.gram[q * b.w + p] = product;
            }
        }
        FOR_THREADS(p, 0, b.w) b.u[p] = p < known ? u[row * width + p] : 0.0f;
        __syncthreads();
        FOR_THREADS(p, 0, b.w) b.diagonal[p] = b.gram[p * b.w + p];
        __syncthreads();
        for (int turn = 0; turn < 200; ++turn) {
            for (int k = 0; k < sweeps; ++k) sweep(b, either);
            double active_now = 0;
            FOR_THREADS(p, 0, b.w) active_now += b.u[p] != 0;
            bool fits = block_sum(active_now) <= small;
            b.factor = fits ? near : far;
            b.stride = (fits ? small : w) + 1;
            newton(b, singular);
            double worst = 0;
            FOR_THREADS(p, 0, b.w) {
                if (b.u[p] != 0) worst = fmax(worst, fabs(b.g[p] - copysign(b.lam, b.u[p])));
                else if (b.diagonal[p] > 0) worst = fmax(worst, (either ? fabs(b.g[p]) : b.g[p]) - b.lam);
            }
            if (block_max(worst) <= inner * b.lam) break;
        }
        // What is not zero comes first, in order; what follows is padding.
        FOR_THREADS(p, 0, known) {
            work[row * width + p] = zero;
            u[row * width + p] = 0;
        }
        __syncthreads();
        double kept = 0;
        FOR_THREADS(p, 0, b.w) {
            if ((float)b.u[p] == 0) continue;
            int place = 0;
            for (int q = 0; q < p; ++q) place += (float)b.u[q] != 0;
            if (place >= width) continue;
            work[row * width + place] = atoms[p];
            u[row * width + place] = (float)b.u[p];
            kept += 1;
        }
        kept = block_sum(kept);
        if (threadIdx.x == 0) size[row] = (int)kept;
        __syncthreads();
    }
}
""")


class Cuda(Batched):
    """`Batched` with kernels: a block of threads a sample, by the steps of `compiled._solve_block`."""

    multiple = 8  # so that the rows of c are aligned

    def __init__(self, v: np.ndarray, place: str, memory: int, signed: bool = True) -> None:
        super().__init__(v, place, memory, signed)
        self.products: Any = np.uint64(0)
        self.expected = 0

    def expect(self, samples: int) -> None:
        """As of `Compiled`; without the products of atoms, those of each working set are formed anew."""
        self.expected += samples
        fits = 4 * self.atoms**2 <= self.memory // 2
        if fits and isinstance(self.products, np.uint64) and self.expected * WORTH >= self.atoms:
            with self._full_precision():
                self.products = self.v @ self.v.T

    @property
    def batch(self) -> int:
        """As of `Batched`, in half of what the products of atoms leave."""
        rows, channels = self.v.shape
        left = self.memory - (0 if isinstance(self.products, np.uint64) else 4 * rows**2)
        return max(16, min(8192, left // 2 // (4 * (2 * rows + 16 * channels))))

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
        n, (columns, channels), width = len(on), self.v.shape, work.shape[1]
        room = min(self.atoms, max(FIRST_ATOMS_CUDA, self.atoms // SHARE_CUDA))
        w = min(used + max(room, used), WIDEST)
        if not self.signed:
            c.clamp_(min=0)
        chosen = torch.empty((n, w), dtype=torch.int64, device=self.device)
        count = torch.empty(n, dtype=torch.int32, device=self.device)
        KERNELS.launch("candidates", n, 256, c, columns, on, active, lam, work, size, width, room, w, chosen, count)
        # Small factors lie in shared memory, some blocks on each processor; the products of the working set do not.
        small = min(w, SMALL)
        blocks = max(1, min(n, BLOCKS, self.memory // 4 // (12 * w * w)))
        space = torch.empty((blocks, w * (w + 1) + (w * w + 1) // 2), dtype=torch.float64, device=self.device)
        KERNELS.launch(
            "improve", blocks, min(256, 32 * -(-w // 64)), self.v, channels, self.products, columns, r, on, active, n,
            lam, chosen, count, w, INNER, SINGULAR, SWEEPS, small, space, torch.zeros_like(count[:1]),
            np.int64(self.atoms), work, u, size, width, int(self.signed), shared=44 * w + 8 + 8 * small * (small + 1),
        )  # fmt: skip

    def _residuals(self, x: Tensor, work: Tensor, u: Tensor) -> Tensor:
        r = torch.empty_like(x)
        KERNELS.launch("residuals", len(x), 256, self.v, x, x.shape[1], work.shape[1], work, u, r)
        return r

    def _dots(self, atom: Tensor, row: Tensor, r: Tensor) -> Tensor:
        out = r.new_empty(atom.shape)
        pairs = atom.reshape(-1).contiguous(), row.reshape(-1).contiguous()
        blocks, total = -(-out.numel() // 8), np.int64(out.numel())
        KERNELS.launch("dots", blocks, 8 * LANES, self.v, r, self.v.shape[1], total, *pairs, out)
        return out

    def _dots_on(self, work: Tensor, row: Tensor, r: Tensor) -> Tensor:
        return self._dots(work, row[:, None].expand(-1, work.shape[1]), r)
