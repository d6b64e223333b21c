# SPDX-License-Identifier: Apache-2.0
"""Grids, clusters, cooperative and dependent launches, and variants."""

import triton
import triton.language as tl
from triton.language.extra import cuda


@triton.jit
def program_ids(out, nx, ny):
    x = tl.program_id(0)
    y = tl.program_id(1)
    z = tl.program_id(2)
    at = ((z * ny + y) * nx + x) * 6
    tl.store(out + at, x)
    tl.store(out + at + 1, y)
    tl.store(out + at + 2, z)
    tl.store(out + at + 3, tl.num_programs(0))
    tl.store(out + at + 4, tl.num_programs(1))
    tl.store(out + at + 5, tl.num_programs(2))


@triton.jit
def last_programs(out, programs, KEPT: tl.constexpr):
    """The last programs of a grid of any size along x write who they are."""
    at = tl.program_id(0).to(tl.int64) - programs + KEPT
    if at >= 0:
        tl.store(out + at, tl.program_id(0).to(tl.int64))


@triton.jit
def cluster_sum(x, out, ids, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums along both axes, so that along one of them each CTA of the cluster has only a part."""
    program = tl.program_id(0)
    i = tl.arange(0, ROWS)
    j = tl.arange(0, COLUMNS)
    block = tl.load(x + program * ROWS * COLUMNS + i[:, None] * COLUMNS + j[None, :])
    tl.store(out + program * (ROWS + COLUMNS) + i, tl.sum(block, axis=1))
    tl.store(out + program * (ROWS + COLUMNS) + ROWS + j, tl.sum(block, axis=0))
    tl.store(ids + program * 2, program)
    tl.store(ids + program * 2 + 1, tl.num_programs(0))


@triton.jit
def dependent(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    cuda.gdc_wait()
    value = tl.load(x + at, mask=at < n)
    cuda.gdc_launch_dependents()
    tl.store(y + at, value * 3, mask=at < n)


@triton.jit
def wait_for_all(counter, partial, y, programs):
    """Every program waits for every other: it ends only where all of the grid runs at once."""
    program = tl.program_id(0)
    tl.store(partial + program, program + 1)
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu")
    while tl.atomic_add(counter, 0, sem="acq_rel", scope="gpu") < programs:
        pass
    total = 0
    for i in range(programs):
        total += tl.load(partial + i, volatile=True)
    tl.store(y + program, total)


@triton.jit
def specialised(x, y, which, n, stride, VARIANT: tl.constexpr, BLOCK: tl.constexpr):
    """Says which variant it is. What it was specialised on, it relies on."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at * stride, mask=at < n) + 1, mask=at < n)
    tl.store(which, VARIANT)


@triton.jit
def expressions(out, rounded, tensor_rows, tensor_stride, is_even, low, high):
    tl.store(out, rounded.to(tl.int64))
    tl.store(out + 1, tensor_rows.to(tl.int64))
    tl.store(out + 2, tensor_stride)
    tl.store(out + 3, is_even.to(tl.int64))
    tl.store(out + 4, low.to(tl.int64))
    tl.store(out + 5, high)
