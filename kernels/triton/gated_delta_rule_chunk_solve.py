# SPDX-License-Identifier: Apache-2.0
"""Chunk solve of the gated delta rule: the inverse of I + A for every chunk and value head.

kernels/qwen35.py says how it is compiled. In Gluon, as it says where everything lies: blocks
stay in a warp's registers, and neither memory nor a barrier is between their products.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

# Products of 16 x 16 blocks by one warp, and two at once by two; 16 rows as they are stored.
ONE = gl.constexpr(gl.NVMMADistributedLayout([2, 0], [1, 1, 1], [1, 16, 8]))
TWO = gl.constexpr(gl.NVMMADistributedLayout([2, 0], [2, 1, 1], [1, 16, 8]))
ROWS_OF_ONE = gl.constexpr(gl.BlockedLayout([1, 1, 8], [1, 8, 4], [1, 1, 1], [2, 1, 0]))
ROWS_OF_TWO = gl.constexpr(gl.BlockedLayout([1, 1, 8], [1, 8, 4], [2, 1, 1], [2, 1, 0]))
SHARED = gl.constexpr(gl.SwizzledSharedLayout(4, 1, 1, [2, 1, 0]))


@gluon.jit
def _left(x):
    """A product as a left factor, float16: its words are where they have to be."""
    layout: gl.constexpr = gl.DotOperandLayout(0, x.type.layout, 2)
    return gl.convert_layout(x.to(gl.float16), layout, assert_trivial=True)


@gluon.jit
def _right(x):
    """A product as a right factor: its 8 x 8 blocks are turned, each within the warp."""
    layout: gl.constexpr = gl.DotOperandLayout(1, x.type.layout, 2)
    b: gl.constexpr = x.shape[0]
    x = gl.inline_asm_elementwise(
        "movmatrix.sync.aligned.m8n8.trans.b16 $0, $1;",
        "=r,r",
        [x.to(gl.float16)],
        dtype=gl.float16,
        is_pure=True,
        pack=2,
    )
    x = gl.permute(gl.reshape(x, (b, 2, 8, 2, 8)), (0, 1, 4, 3, 2))
    return gl.convert_layout(gl.reshape(x, (b, 16, 16)), layout, assert_trivial=True)


@gluon.jit
def _invert(a, i, j):
    """L where (I + A)^-1 = I + L, for strictly lower triangular A [B, 16, 16].

    Blocks of 2 have L = -A; each step merges pairs of blocks into blocks twice as large. Unlike the
    product (I - A)(I + A^2)(I + A^4)(I + A^8), which cancels large powers of A, this stays accurate
    where keys resemble each other. The identity stays out of the products, so that what is rounded
    are the terms added to A, and not A.
    """
    l = gl.where(i // 2 == j // 2, -a, 0.0)
    right = _right(a)
    for log2 in gl.static_range(1, 4):
        below = ((i >> log2) == (j >> log2) + 1) & (((i >> log2) & 1) == 1)
        p = mma_v2(_left(l), right, a)
        p = mma_v2(_left(p), _right(l), p)
        l = gl.where(below, -p, l)
    return l


@gluon.jit
def _indices(B: gl.constexpr, COLUMNS: gl.constexpr, LAYOUT: gl.constexpr):
    """Those of [B, 16, COLUMNS] in this layout."""
    b = gl.arange(0, B, gl.SliceLayout(1, gl.SliceLayout(2, LAYOUT)))[:, None, None]
    i = gl.arange(0, 16, gl.SliceLayout(0, gl.SliceLayout(2, LAYOUT)))[None, :, None]
    j = gl.arange(0, COLUMNS, gl.SliceLayout(0, gl.SliceLayout(1, LAYOUT)))[None, None, :]
    return b, i, j


@gluon.jit
def _block(a_tril, pitch, rows, row, column, lower, ON_DIAGONAL: gl.constexpr, WHOLE: gl.constexpr):
    """16 x 16 of A; of a block on the diagonal only what is in a `lower` 8 x 8 block is fetched."""
    at = row * pitch + column
    if WHOLE and not ON_DIAGONAL:
        return gl.load(a_tril + at)
    elif WHOLE:
        return gl.load(a_tril + at, mask=lower, other=0.0)
    elif not ON_DIAGONAL:
        return gl.load(a_tril + at, mask=row < rows, other=0.0)
    else:
        return gl.load(a_tril + at, mask=(row < rows) & lower, other=0.0)


@gluon.jit
def _tiles(a_tril, pitch, rows, i, j, WHOLE: gl.constexpr):
    lower = i // 8 >= j // 8
    a00 = _block(a_tril, pitch, rows, i, j, lower, True, WHOLE)
    a10 = _block(a_tril, pitch, rows, i + 16, j, lower, False, WHOLE)
    a11 = _block(a_tril, pitch, rows, i + 16, j + 16, lower, True, WHOLE)
    a20 = _block(a_tril, pitch, rows, i + 32, j, lower, False, WHOLE)
    a21 = _block(a_tril, pitch, rows, i + 32, j + 16, lower, False, WHOLE)
    a22 = _block(a_tril, pitch, rows, i + 32, j + 32, lower, True, WHOLE)
    a30 = _block(a_tril, pitch, rows, i + 48, j, lower, False, WHOLE)
    a31 = _block(a_tril, pitch, rows, i + 48, j + 16, lower, False, WHOLE)
    a32 = _block(a_tril, pitch, rows, i + 48, j + 32, lower, False, WHOLE)
    a33 = _block(a_tril, pitch, rows, i + 48, j + 48, lower, True, WHOLE)
    return a00, a10, a11, a20, a21, a22, a30, a31, a32, a33


@gluon.jit
def _pair(x, y, ROWS: gl.constexpr):
    """Two blocks side by side, bfloat16, each thread with 16 bytes of a row."""
    x = gl.reshape(gl.permute(gl.join(x, y), (0, 1, 3, 2)), (x.shape[0], 16, 32))
    return gl.convert_layout(x.to(gl.bfloat16), ROWS)


@gluon.jit
def _place(a_tril, a_inv, seq_len, num_value_heads):
    """Where this program's chunk and head begin, its rows, and elements from row to row."""
    chunk = gl.program_id(0) // num_value_heads
    head = gl.program_id(0) - chunk * num_value_heads
    first = (chunk.to(gl.int64) * 64 * num_value_heads + head) * 64
    return a_tril + first, a_inv + first, seq_len - chunk * 64, num_value_heads * 64


@gluon.jit
def _sum_of_thread(x):
    """Of each thread's elements of a product [B, 16, 16]: infinite or NaN where one of them is."""
    x = gl.reshape(x, (x.shape[0], 2, 8, 2, 4, 2))
    return gl.sum(gl.sum(gl.sum(x, 5), 3), 1)


@gluon.jit
def _finite(x):
    """Whether all of x is; the program's threads agree."""
    bits = x.to(gl.int32, bitcast=True) & 0x7FFFFFFF
    return gl.max(gl.reshape(bits, (x.shape[0] * 32,)), 0) < 0x7F800000


@gluon.jit
def _prefetch(a_tril, rows, pitch):
    """Asks the L2 cache for A: all accesses of a GPU meet there.

    So a load after the wait reads what a kernel ahead writes meanwhile.
    """
    row = gl.arange(0, 64, gl.BlockedLayout([1], [32], [gl.num_warps()], [0]))
    for column in gl.static_range(0, 64, 32):
        # The lines of 128 bytes that hold something of the lower triangle; else the first again.
        wanted = (row < rows) & (row >= column)
        at = a_tril + gl.where(wanted, row * pitch + column, 0)
        gl.inline_asm_elementwise(
            "{ prefetch.global.L2 [$1]; mov.b32 $0, 0; }",
            "=r,l",
            [at.to(gl.int64)],
            dtype=gl.int32,
            is_pure=False,
            pack=1,
        )


@gluon.jit
def _begin(a_tril, rows, pitch, EARLY: gl.constexpr):
    """Before anything in memory is touched: what the kernels ahead wrote is there, all of it.

    EARLY   0: launched when the kernel ahead has ended; else before, and waits for that here:
            1: A is asked for meanwhile, and the kernel behind may begin when A is there: for grids
            that are soon over; 2: the kernel behind may begin at once
    """
    if EARLY == 1:
        _prefetch(a_tril, rows, pitch)
    if EARLY == 2:
        _allow_next()
    if EARLY:
        gl.inline_asm("griddepcontrol.wait;", "~{memory}", is_pure=False)


@gluon.jit
def _allow_next():
    gl.inline_asm("griddepcontrol.launch_dependents;", is_pure=False)


@gluon.jit
def _solve(a_tril, a_inv, rows, pitch, EARLY: gl.constexpr):
    """One A by one warp; False where a factor did not fit 16 bits."""
    _, i, j = _indices(1, 16, ONE)
    # All at once, in blocks of their own: the assembler asks for nothing later than that.
    if rows >= 64:
        a00, a10, a11, a20, a21, a22, a30, a31, a32, a33 = _tiles(a_tril, pitch, rows, i, j, True)
    else:
        a00, a10, a11, a20, a21, a22, a30, a31, a32, a33 = _tiles(a_tril, pitch, rows, i, j, False)
    if EARLY == 1:
        _allow_next()
    # What is on and above the diagonal may be a NaN.
    l0 = _invert(gl.where(i > j, a00, 0.0), i, j)
    l1 = _invert(gl.where(i > j, a11, 0.0), i, j)
    l2 = _invert(gl.where(i > j, a22, 0.0), i, j)
    l3 = _invert(gl.where(i > j, a33, 0.0), i, j)
    right0 = _right(l0)
    right1 = _right(l1)
    left3 = _left(l3)
    p = mma_v2(_left(l1), _right(a10), a10)
    l10 = -mma_v2(_left(p), right0, p)
    p = mma_v2(left3, _right(a32), a32)
    l32 = -mma_v2(_left(p), _right(l2), p)

    # What is known is stored at once, which keeps registers free.
    one = gl.where(i == j, 1.0, 0.0)
    _, row, column = _indices(1, 32, ROWS_OF_ONE)
    to = a_inv + (row * pitch + column)
    nothing = gl.zeros([1, 16, 16], gl.float32, ONE)
    above = gl.zeros([1, 16, 32], gl.bfloat16, ROWS_OF_ONE)
    gl.store(to + 32, above, mask=row < rows)
    gl.store(to + (16 * pitch + 32), above, mask=row + 16 < rows)
    gl.store(to, _pair(l0 + one, nothing, ROWS_OF_ONE), mask=row < rows)
    gl.store(to + 16 * pitch, _pair(l10, l1 + one, ROWS_OF_ONE), mask=row + 16 < rows)
    gl.store(to + (32 * pitch + 32), _pair(l2 + one, nothing, ROWS_OF_ONE), mask=row + 32 < rows)
    gl.store(to + (48 * pitch + 32), _pair(l32, l3 + one, ROWS_OF_ONE), mask=row + 48 < rows)

    # The blocks of 32: P = X22 A21, then P X11, of 16 x 16 blocks, without those that are 0.
    left2 = _left(l2)
    left32 = _left(l32)
    right10 = _right(l10)
    right = _right(a20)
    p20 = mma_v2(left2, right, a20)
    p30 = mma_v2(left3, _right(a30), a30)
    p30 = mma_v2(left32, right, p30)
    right = _right(a21)
    p21 = mma_v2(left2, right, a21)
    p31 = mma_v2(left3, _right(a31), a31)
    p31 = mma_v2(left32, right, p31)
    left = _left(p21)
    l20 = mma_v2(_left(p20), right0, p20)
    l20 = -mma_v2(left, right10, l20)
    l21 = -mma_v2(left, right1, p21)
    spread = _sum_of_thread(l20)
    gl.store(to + 32 * pitch, _pair(l20, l21, ROWS_OF_ONE), mask=row + 32 < rows)
    left = _left(p31)
    l30 = mma_v2(_left(p30), right0, p30)
    l30 = -mma_v2(left, right10, l30)
    l31 = -mma_v2(left, right1, p31)
    gl.store(to + 48 * pitch, _pair(l30, l31, ROWS_OF_ONE), mask=row + 48 < rows)
    # What did not fit is an infinity, and 0 times that a NaN: whichever factor it was in, it spread
    # through the products into one of these.
    return _finite(spread + _sum_of_thread(l30))


@gluon.jit
def _shared(x):
    return gl.allocate_shared_memory(gl.float32, [2, 16, 16], SHARED, x)


@gluon.jit
def _of(shared, half: gl.constexpr):
    """One half's block, in both warps."""
    return shared.slice(half, 1, dim=0).load(TWO) + gl.zeros([2, 16, 16], gl.float32, TWO)


@gluon.jit
def _halves(a_tril, pitch, rows, half, i, j, WHOLE: gl.constexpr):
    lower = i // 8 >= j // 8
    top = 32 * half
    d0 = _block(a_tril, pitch, rows, top + i, top + j, lower, True, WHOLE)
    d1 = _block(a_tril, pitch, rows, top + i + 16, top + j + 16, lower, True, WHOLE)
    d10 = _block(a_tril, pitch, rows, top + i + 16, top + j, lower, False, WHOLE)
    both = 0 * half
    a20 = _block(a_tril, pitch, rows, both + i + 32, both + j, lower, False, WHOLE)
    a21 = _block(a_tril, pitch, rows, both + i + 32, both + j + 16, lower, False, WHOLE)
    a30 = _block(a_tril, pitch, rows, both + i + 48, both + j, lower, False, WHOLE)
    a31 = _block(a_tril, pitch, rows, both + i + 48, both + j + 16, lower, False, WHOLE)
    return d0, d1, d10, a20, a21, a30, a31


@gluon.jit
def _solve_halves(a_tril, a_inv, rows, pitch, EARLY: gl.constexpr):
    """One A by two warps: each inverts 32 x 32, one half, then has 16 rows of what is below."""
    half, i, j = _indices(2, 16, TWO)
    if rows >= 64:
        d0, d1, d10, a20, a21, a30, a31 = _halves(a_tril, pitch, rows, half, i, j, True)
    else:
        d0, d1, d10, a20, a21, a30, a31 = _halves(a_tril, pitch, rows, half, i, j, False)
    if EARLY == 1:
        _allow_next()
    l0 = _invert(gl.where(i > j, d0, 0.0), i, j)
    l1 = _invert(gl.where(i > j, d1, 0.0), i, j)
    p = mma_v2(_left(l1), _right(d10), d10)
    l10 = -mma_v2(_left(p), _right(l0), p)
    of_l0 = _shared(l0)
    of_l1 = _shared(l1)
    of_l10 = _shared(l10)

    one = gl.where(i == j, 1.0, 0.0)
    which, row, column = _indices(2, 32, ROWS_OF_TWO)
    nothing = gl.zeros([2, 16, 16], gl.float32, TWO)
    above = gl.zeros([2, 16, 32], gl.bfloat16, ROWS_OF_TWO)
    top = 32 * which
    to = a_inv + ((top + row) * pitch + (top + column))
    gl.store(to, _pair(l0 + one, nothing, ROWS_OF_TWO), mask=top + row < rows)
    gl.store(to + 16 * pitch, _pair(l10, l1 + one, ROWS_OF_TWO), mask=top + row + 16 < rows)
    row += 16 * which
    to = a_inv + (row * pitch + column)
    gl.store(to + 32, above, mask=row < rows)

    # X22's blocks of this warp's rows; A's blocks, and X11's as right factors, in both.
    left0 = _left(gl.where(half == 0, _of(of_l0, 1), l10))
    left1 = _left(gl.where(half == 0, 0.0, l1))
    right0 = _right(_of(of_l0, 0))
    right1 = _right(_of(of_l1, 0))
    right10 = _right(_of(of_l10, 0))
    p0 = mma_v2(left0, _right(a20), gl.where(half == 0, a20, a30))
    p1 = mma_v2(left0, _right(a21), gl.where(half == 0, a21, a31))
    p0 = mma_v2(left1, _right(a30), p0)
    p1 = mma_v2(left1, _right(a31), p1)
    left = _left(p1)
    l0 = mma_v2(_left(p0), right0, p0)
    l0 = -mma_v2(left, right10, l0)
    l1 = -mma_v2(left, right1, p1)
    gl.store(to + 32 * pitch, _pair(l0, l1, ROWS_OF_TWO), mask=row + 32 < rows)
    return _finite(_sum_of_thread(l0))  # as in _solve


# A function that is called, which it hardly ever is: so nothing is kept in registers for it.
@gluon.jit(noinline=True)
def _substitute(a_tril, a_inv, seq_len, num_value_heads):
    """The same in float32, row by row; each thread has whole columns of the inverse."""
    a_tril, a_inv, rows, pitch = _place(a_tril, a_inv, seq_len, num_value_heads)
    columns: gl.constexpr = gl.BlockedLayout(
        [64, 2 // gl.num_warps()], [1, 32], [1, gl.num_warps()], [0, 1]
    )
    k = gl.arange(0, 64, gl.SliceLayout(1, columns))
    j = gl.arange(0, 64, gl.SliceLayout(0, columns))
    inverse = gl.zeros([64, 64], gl.float32, columns)
    gl.barrier()  # what is there now was stored by other threads
    for i in range(0, gl.minimum(rows, 64)):
        a = gl.where(k < i, gl.load(a_tril + (i * pitch + k)), 0.0)
        row = -gl.sum(a[:, None] * inverse, 0)
        row = gl.where(j < i, row, gl.where(j == i, 1.0, 0.0))
        inverse = gl.where(k[:, None] == i, row[None, :], inverse)
        gl.store(a_inv + (i * pitch + j), row.to(gl.bfloat16))


@gluon.jit
def gated_delta_rule_chunk_solve(a_tril, a_inv, seq_len, num_value_heads, EARLY: gl.constexpr):
    """A_inv = (I + A)^-1 for each chunk of 64 tokens and each value head (docs/functions.md).

    a_tril   float32 [seq_len, num_value_heads, 64], contiguous, 16-byte aligned: row t of head h is
             row t % 64 of A in chunk t / 64; only A's strict lower triangle has influence
    a_inv    bfloat16, the same shape and layout; the strict upper triangle is written as 0
    grid     one program a chunk and head, heads fastest: ceil(seq_len / 64) * num_value_heads
    EARLY    see _begin

    A program, one warp, inverts one A: the four 16 x 16 blocks on the diagonal, merged to 32 x 32,
    then to 64 x 64 by X21 = -X22 A21 X11. Rows past seq_len count as 0 and are not written. Offsets
    within a chunk are 32-bit: num_value_heads may be 2^19 at most.

    Factors of products are float16. Where one is past 65504 all is done again by substitution in
    float32, which takes several times as long.
    """
    a, x, rows, pitch = _place(a_tril, a_inv, seq_len, num_value_heads)
    _begin(a, rows, pitch, EARLY)
    if not _solve(a, x, rows, pitch, EARLY):
        _substitute(a_tril, a_inv, seq_len, num_value_heads)


@gluon.jit
def gated_delta_rule_chunk_solve_halves(
    a_tril, a_inv, seq_len, num_value_heads, EARLY: gl.constexpr
):
    """The same by two warps, which share their blocks' registers: more programs at once."""
    a, x, rows, pitch = _place(a_tril, a_inv, seq_len, num_value_heads)
    _begin(a, rows, pitch, EARLY)
    if not _solve_halves(a, x, rows, pitch, EARLY):
        _substitute(a_tril, a_inv, seq_len, num_value_heads)
