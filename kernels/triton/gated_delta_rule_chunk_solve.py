# SPDX-License-Identifier: Apache-2.0
"""Chunk solve of the gated delta rule: the inverse of I + A for every chunk and value head.

kernels/qwen35.py says how it is compiled.
"""

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
def _merge(l11, a21, l22):
    """X22 A21 X11 with X = I + L: the inverse's block below its diagonal blocks, negated.

    The identity stays out of the products, so that tf32 rounds the terms added to A21 and not A21.
    """
    p = _multiply_add(l22, a21, a21)
    return _multiply_add(p, l11, p)


@triton.jit
def _invert16(a):
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
        l = tl.where(below, -_merge(l, a, l), l)
    return l


@triton.jit
def _join_blocks(x11, x21, x22):
    """Merged blocks [B, 2N, 2N], 0 above the diagonal: the even and the odd ones of the batch."""
    b: tl.constexpr = x11.shape[0]
    n: tl.constexpr = x11.shape[1]
    x = tl.join(tl.join(x11, tl.zeros_like(x11)), tl.join(x21, x22))
    x = tl.reshape(tl.permute(x, (0, 4, 1, 3, 2)), (b // 2, 2, 2 * n, 2 * n))
    return tl.split(tl.permute(x, (0, 2, 3, 1)))


@triton.jit
def gated_delta_rule_chunk_solve(a_tril, a_inv, seq_len, num_value_heads):
    """A_inv = (I + A)^-1 for each chunk of 64 tokens and each value head (docs/functions.md).

    a_tril   float32 [seq_len, num_value_heads, 64], contiguous, 16-byte aligned: row t of head h is
             row t % 64 of A in chunk t / 64; only A's strict lower triangle has influence
    a_inv    bfloat16, the same shape and layout; the strict upper triangle is written as 0
    grid     one program a chunk and head, heads fastest: ceil(seq_len / 64) * num_value_heads

    A program inverts one A: the four 16 x 16 blocks on the diagonal, merged to 32 x 32, then to
    64 x 64 by X21 = -X22 A21 X11. Rows past seq_len count as 0 and are not written. Offsets
    within a chunk are 32-bit: num_value_heads may be 2^19 at most.
    """
    chunk = tl.program_id(0) // num_value_heads
    head = tl.program_id(0) - chunk * num_value_heads
    first = (chunk.to(tl.int64) * 64 * num_value_heads + head) * 64
    a_tril += first
    a_inv += first
    rows = seq_len - chunk * 64
    pitch = num_value_heads * 64

    # The 16 x 16 blocks (0, 0) and (2, 2); (1, 1) and (3, 3); (1, 0) and (3, 2).
    block = 32 * tl.arange(0, 2)[:, None, None]
    i = block + tl.arange(0, 16)[None, :, None]
    j = block + tl.arange(0, 16)[None, None, :]
    a11 = tl.load(a_tril + (i * pitch + j), mask=i < rows, other=0.0)
    i += 16
    a22 = tl.load(a_tril + (i * pitch + j + 16), mask=i < rows, other=0.0)
    a21 = tl.load(a_tril + (i * pitch + j), mask=i < rows, other=0.0)
    l11 = _invert16(a11)
    l22 = _invert16(a22)
    l21 = -_merge(l11, a21, l22)
    l11, l22 = _join_blocks(l11, l21, l22)

    # The 32 x 32 blocks. What is known is stored at once, and A's last block read as late as this:
    # both keep registers free.
    i = tl.arange(0, 32)[None, :, None]
    j = tl.arange(0, 32)[None, None, :]
    a21 = tl.load(a_tril + ((i + 32) * pitch + j), mask=i + 32 < rows, other=0.0)
    identity = tl.where(i == j, 1.0, 0.0)
    upper = a_inv + (i * pitch + j)
    lower = a_inv + ((i + 32) * pitch + j)
    tl.store(upper + 32, tl.zeros([1, 32, 32], tl.bfloat16), mask=i < rows)
    tl.store(upper, (l11 + identity).to(tl.bfloat16), mask=i < rows)
    tl.store(lower + 32, (l22 + identity).to(tl.bfloat16), mask=i + 32 < rows)
    l21 = -_merge(l11, a21, l22)
    tl.store(lower, l21.to(tl.bfloat16), mask=i + 32 < rows)
