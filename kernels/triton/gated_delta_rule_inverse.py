# SPDX-License-Identifier: Apache-2.0
"""What inverts I + A within kernels of several warps: blocks, doubled by products."""

import triton
import triton.language as tl


@triton.jit
def _pair_columns(x):
    """Orders the last axis of x so that a product's result serves as a factor where it lies.

    In registers a thread holds columns 2t and 2t + 1 of eight of a result, but columns t and t + 4
    of a left factor. The sum over k may run in any order, so both factors take this one.
    """
    b: tl.constexpr = x.shape[0]
    m: tl.constexpr = x.shape[1]
    k: tl.constexpr = x.shape[2]
    x = tl.permute(tl.reshape(x, (b, m, k // 8, 4, 2)), (0, 1, 2, 4, 3))
    return tl.reshape(x, (b, m, k))


@triton.jit
def _multiply_add(x, y, z):
    """x y + z, batched, in tf32 with float32 sums."""
    y = tl.permute(_pair_columns(tl.permute(y, (0, 2, 1))), (0, 2, 1))
    return tl.dot(_pair_columns(x), y, z, input_precision="tf32")


@triton.jit
def merge(l11, a21, l22):
    """X22 A21 X11 with X = I + L: the inverse's block below its diagonal blocks, negated.

    The identity stays out of the products, so that tf32 rounds the terms added to A21 and not A21.
    """
    p = _multiply_add(l22, a21, a21)
    return _multiply_add(p, l11, p)


@triton.jit
def invert16(a):
    """L where (I + A)^-1 = I + L, for a batch of 16 x 16 strictly lower triangles of a.

    Blocks of 2 have L = -A; each step then merges pairs of blocks into blocks twice as large.
    Unlike the product (I - A)(I + A^2)(I + A^4)(I + A^8), which cancels large powers of A, this
    stays accurate where keys resemble each other.
    """
    i = tl.arange(0, 16)[None, :, None]
    j = tl.arange(0, 16)[None, None, :]
    a = tl.where(i > j, a, 0.0)
    l = tl.where(i // 2 == j // 2, -a, 0.0)
    # A loop, not unrolled: fewer values are held at once.
    for log2 in range(1, 4):
        below = (i >> log2 == (j >> log2) + 1) & ((i >> log2) & 1 == 1)
        l = tl.where(below, -merge(l, a, l), l)
    return l


@triton.jit
def join_blocks(x11, x21, x22):
    """Merged blocks [B, 2N, 2N], 0 above the diagonal: the even and the odd ones of the batch."""
    b: tl.constexpr = x11.shape[0]
    n: tl.constexpr = x11.shape[1]
    x = tl.join(tl.join(x11, tl.zeros_like(x11)), tl.join(x21, x22))
    x = tl.reshape(tl.permute(x, (0, 4, 1, 3, 2)), (b // 2, 2, 2 * n, 2 * n))
    return tl.split(tl.permute(x, (0, 2, 3, 1)))
