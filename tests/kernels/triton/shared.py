# SPDX-License-Identifier: Apache-2.0
"""A matrix product whose dynamic shared memory is set by its tile and its stages."""

import triton
import triton.language as tl


@triton.jit
def product(a, b, c, k_size, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """c[M, N] = a[M, k] b[k, N], one tile a program along y and x."""
    rows = tl.program_id(1) * M + tl.arange(0, M)
    columns = tl.program_id(0) * N + tl.arange(0, N)
    width = tl.num_programs(0) * N
    total = tl.zeros([M, N], dtype=tl.float32)
    for first in range(0, k_size, K):
        k = first + tl.arange(0, K)
        left = tl.load(a + rows[:, None] * k_size + k[None, :])
        right = tl.load(b + k[:, None] * width + columns[None, :])
        total = tl.dot(left, right, total)
    tl.store(c + rows[:, None] * width + columns[None, :], total)
