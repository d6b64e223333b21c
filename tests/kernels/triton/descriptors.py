# SPDX-License-Identifier: Apache-2.0
"""Tensor descriptors, from the host and made in the kernel."""

import triton
import triton.language as tl


@triton.jit
def _dims(dims, x, RANK: tl.constexpr):
    for d in tl.static_range(RANK):
        tl.store(dims + d, x.shape[d].to(tl.int64))
        tl.store(dims + RANK + d, x.strides[d].to(tl.int64))


@triton.jit
def copy_1d(x, y, dims, B0: tl.constexpr):
    at = tl.program_id(0) * B0
    y.store([at], x.load([at]))
    if tl.program_id(0) == 0:
        _dims(dims, x, 1)


@triton.jit
def copy_2d(x, y, dims, B0: tl.constexpr, B1: tl.constexpr):
    i = tl.program_id(0) * B0
    j = tl.program_id(1) * B1
    y.store([i, j], x.load([i, j]))
    if tl.program_id(0) + tl.program_id(1) == 0:
        _dims(dims, x, 2)


@triton.jit
def copy_3d(x, y, dims, B0: tl.constexpr, B1: tl.constexpr, B2: tl.constexpr):
    i = tl.program_id(0) * B0
    j = tl.program_id(1) * B1
    k = tl.program_id(2) * B2
    y.store([i, j, k], x.load([i, j, k]))
    if tl.program_id(0) + tl.program_id(1) + tl.program_id(2) == 0:
        _dims(dims, x, 3)


@triton.jit
def copy_4d(x, y, dims, N1, B1: tl.constexpr, B2: tl.constexpr, B3: tl.constexpr):
    i = tl.program_id(0) // N1
    j = tl.program_id(0) % N1 * B1
    k = tl.program_id(1) * B2
    m = tl.program_id(2) * B3
    y.store([i, j, k, m], x.load([i, j, k, m]))
    if tl.program_id(0) + tl.program_id(1) + tl.program_id(2) == 0:
        _dims(dims, x, 4)


@triton.jit
def copy_5d(x, y, dims, N1, N2, B2: tl.constexpr, B3: tl.constexpr, B4: tl.constexpr):
    h = tl.program_id(0) // (N1 * N2)
    i = tl.program_id(0) // N2 % N1
    j = tl.program_id(0) % N2 * B2
    k = tl.program_id(1) * B3
    m = tl.program_id(2) * B4
    y.store([h, i, j, k, m], x.load([h, i, j, k, m]))
    if tl.program_id(0) + tl.program_id(1) + tl.program_id(2) == 0:
        _dims(dims, x, 5)


@triton.jit
def out_of_bounds(x, y, B0: tl.constexpr, B1: tl.constexpr):
    """Stores one whole block, also what lies outside of x."""
    i = tl.arange(0, B0)[:, None]
    j = tl.arange(0, B1)[None, :]
    tl.store(y + i * B1 + j, x.load([0, 0]))


@triton.jit
def low_bits(x, y, B0: tl.constexpr, B1: tl.constexpr):
    """What tf32 does not hold of what is loaded."""
    i = tl.arange(0, B0)[:, None]
    j = tl.arange(0, B1)[None, :]
    tl.store(y + i * B1 + j, x.load([0, 0]).to(tl.int32, bitcast=True) & 0x1FFF)


@triton.jit
def made_in_kernel(x, y, rows, columns, add, B0: tl.constexpr, B1: tl.constexpr):
    """Where descriptors are in memory they are in the launch's global scratch."""
    source = tl.make_tensor_descriptor(
        x, shape=[rows, columns], strides=[columns, 1], block_shape=[B0, B1]
    )
    target = tl.make_tensor_descriptor(
        y, shape=[rows, columns], strides=[columns, 1], block_shape=[B0, B1]
    )
    i = tl.program_id(0) * B0
    j = tl.program_id(1) * B1
    target.store([i, j], source.load([i, j]) + add.to(tl.float32))
