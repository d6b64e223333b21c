# SPDX-License-Identifier: Apache-2.0
"""A product whose warps are given different work, so that the compiler adds warps of its own."""

import triton
import triton.language as tl


@triton.jit
def warp_specialised(a, b, c, k_size, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """c[M, N] = a[M, k] b[N, k]^T; a and b by host descriptors."""
    total = tl.zeros([M, N], dtype=tl.float32)
    for first in tl.range(0, k_size, K, warp_specialize=True):
        left = a.load([0, first])
        right = b.load([0, first])
        total = tl.dot(left, right.T, total)
    i = tl.arange(0, M)[:, None]
    j = tl.arange(0, N)[None, :]
    tl.store(c + i * N + j, total)
