"""CUDA kernels: how they are compiled, by CuPy and when they are first used, and started.

Imported where there is a CUDA device, and only when a kernel is to run there. The arrays are CuPy's or torch's. Kernels
run on the device's default stream, where both libraries do their work.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LANES = 32
COMMON = r"""
#define LANES 32
#define WARPS (blockDim.x / LANES)
#define FOR_LANES(i, first, end) for (int i = (first) + threadIdx.x % LANES; i < (end); i += LANES)
#define FOR_THREADS(i, first, end) for (int i = (first) + threadIdx.x; i < (end); i += blockDim.x)
#define FAR 1e300
typedef long long row_t;
typedef unsigned long long hash_t;

__device__ double warp_sum(double value) {
    for (int other = LANES / 2; other; other /= 2) value += __shfl_xor_sync(0xffffffffu, value, other);
    return value;
}

__device__ double warp_max(double value) {
    for (int other = LANES / 2; other; other /= 2) value = fmax(value, __shfl_xor_sync(0xffffffffu, value, other));
    return value;
}

// The sum or the largest of all threads' values, known to all of them afterwards.
__device__ double reduced(double value, bool sum) {
    __shared__ double partial[32];
    value = sum ? warp_sum(value) : warp_max(value);
    if (threadIdx.x % LANES == 0) partial[threadIdx.x / LANES] = value;
    __syncthreads();
    value = partial[0];
    for (int warp = 1; warp < WARPS; ++warp) value = sum ? value + partial[warp] : fmax(value, partial[warp]);
    __syncthreads();
    return value;
}

__device__ double block_sum(double value) { return reduced(value, true); }
__device__ double block_max(double value) { return reduced(value, false); }

template <class A, class B> __device__ double warp_dot(const A* a, const B* b, int n) {
    double sum = 0;
    FOR_LANES(c, 0, n) sum += (double)a[c] * (double)b[c];
    return warp_sum(sum);
}
"""
"""What the kernels of every module may call."""


class Kernels:
    """The kernels of a source, which follows `COMMON`."""

    def __init__(self, source: str) -> None:
        self.source = COMMON + source
        self._compiled: dict[str, Any] = {}

    def launch(self, name: str, blocks: int, threads: int, *arguments: Any, shared: int = 0) -> None:
        """Start a kernel.

        Parameters
        ----------
        name : str
            Its name in the source.
        blocks, threads : int
            Blocks, and threads of each.
        *arguments : arrays, int or float
            Contiguous CuPy arrays or torch tensors on the current device; an int becomes an ``int``, a NumPy int64 a
            ``row_t``, a float a ``double``.
        shared : int
            Bytes of shared memory of each block.
        """
        if not blocks:
            return
        given: list[Any] = []
        for argument in arguments:
            if hasattr(argument, "data_ptr"):
                given.append(np.uint64(argument.data_ptr()))
            elif isinstance(argument, int):
                given.append(np.int32(argument))
            else:
                given.append(np.float64(argument) if isinstance(argument, float) else argument)
        kernel = self._kernel(name)
        if shared > kernel.max_dynamic_shared_size_bytes:
            kernel.max_dynamic_shared_size_bytes = shared
        kernel((blocks,), (threads,), tuple(given), shared_mem=shared)

    def _kernel(self, name: str) -> Any:
        if name not in self._compiled:
            import cupy

            self._compiled[name] = cupy.RawKernel(self.source, name, options=("-std=c++17",))
        return self._compiled[name]
