# SPDX-License-Identifier: Apache-2.0
"""All of a prefill of the gated delta rule that chunks can do each for itself.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl
from gated_delta_rule_common import (
    allow_next,
    cumulative_gates,
    decay,
    high_and_low,
    sequence_of_slot,
    wait_for_previous,
)
from gated_delta_rule_inverse import invert16, join_blocks, merge


@triton.jit
def _blocks(x):
    """Of [B, 2N, 2N] the blocks (0, 0), (1, 0) and (1, 1), each [B, N, N]."""
    b: tl.constexpr = x.shape[0]
    n: tl.constexpr = x.shape[1] // 2
    x = tl.permute(tl.reshape(x, (b, 2, n, 2, n)), (0, 2, 4, 1, 3))
    left, right = tl.split(x)
    x11, x21 = tl.split(left)
    _, x22 = tl.split(right)
    return x11, x21, x22


@triton.jit
def _inverse(a):
    """(I + A)^-1 of a strictly lower triangular A [64, 64], in float32 by way of tf32.

    gated_delta_rule_inverse.py's method.
    """
    a11, a21, a22 = _blocks(tl.reshape(a, (1, 64, 64)))
    diagonal = tl.reshape(tl.permute(tl.join(a11, a22), (0, 3, 1, 2)), (2, 32, 32))
    b11, b21, b22 = _blocks(diagonal)
    # The four blocks at once: each warp has one.
    l = tl.reshape(tl.permute(tl.join(b11, b22), (0, 3, 1, 2)), (4, 16, 16))
    l = tl.reshape(invert16(l), (2, 2, 16, 16))
    l11, l22 = tl.split(tl.permute(l, (0, 2, 3, 1)))
    l21 = -merge(l11, b21, l22)
    l11, l22 = join_blocks(l11, l21, l22)
    l21 = -merge(l11, a21, l22)
    x = tl.join(tl.join(l11, tl.zeros_like(l11)), tl.join(l21, l22))
    x = tl.reshape(tl.permute(x, (0, 4, 1, 3, 2)), (64, 64))
    i = tl.arange(0, 64)
    return x + tl.where(i[:, None] == i[None, :], 1.0, 0.0)


@triton.jit
def gated_delta_rule_prefill_chunk(
    q,
    k,
    v,
    g,
    beta,
    cu_seqlens,
    w,
    u,
    p,
    g_cumsum,
    num_tokens,
    num_sequences,
    key_heads,
    value_heads,
    v_stride,
    has_cu_seqlens,
    words,
    EARLY: tl.constexpr,
):
    """cumsum, A, its inverse and recompute, and the scores, of each chunk and value head at once.

    q, k        bfloat16 [num_tokens, key_heads, 128], rows normalised
    v           bfloat16, v_stride elements from token to token, value_heads rows of 128 in each
    g, beta     float32 [num_tokens, value_heads]
    cu_seqlens  int32 (words 1) or int64 (2) [num_sequences + 1]; without: one sequence
    w, u        bfloat16 [num_tokens, value_heads, 128], as chunk_recompute has them
    p           bfloat16 [num_tokens, value_heads, 64]: exp(G_i - G_j) q_i . k_j for i >= j, else 0;
                row t is row t - (first token of its chunk) of that chunk
    g_cumsum    float32 [num_tokens, value_heads]: G
    grid        (num_tokens / 64 + num_sequences) * value_heads, heads fastest: a program a chunk
                slot (sequence_of_slot) and value head; value_heads is a multiple of key_heads
    """
    wait_for_previous(EARLY)
    slot = tl.program_id(0) // value_heads
    head = tl.program_id(0) - slot * value_heads
    first, rows = sequence_of_slot(
        slot, cu_seqlens, has_cu_seqlens, words, num_tokens, num_sequences
    )
    if rows <= 0:
        return
    key_head = head // (value_heads // key_heads)
    t = tl.arange(0, 64)
    live = t < rows
    c = tl.arange(0, 128)
    i = t[:, None]
    j = t[None, :]
    gate_at = first * value_heads + head + t * value_heads
    key_at = (first * key_heads + key_head) * 128 + (i * (key_heads * 128) + c[None, :])
    key = tl.load(k + key_at, mask=live[:, None], other=0.0)
    query = tl.load(q + key_at, mask=live[:, None], other=0.0)
    gates = cumulative_gates(tl.load(g + gate_at, mask=live, other=0.0))
    strength = tl.load(beta + gate_at, mask=live, other=0.0)
    tl.store(g_cumsum + gate_at, gates, mask=live)

    # Asked for as early as this: what follows takes long.
    value_at = first * v_stride + head * 128 + (i * v_stride + c[None, :])
    value = tl.load(v + value_at, mask=live[:, None], other=0.0)
    fade = decay(gates, i >= j)
    scores = (tl.dot(query, tl.trans(key)) * fade).to(tl.bfloat16)
    score_at = (first * value_heads + head) * 64 + (i * (value_heads * 64) + j)
    tl.store(p + score_at, scores, mask=live[:, None])
    a = tl.dot(key, tl.trans(key)) * fade * strength[:, None]
    # beta and exp(G) scale the inverse's columns: k and v stay as exact as they came. For u, whose
    # error reaches the output undamped, the scaled inverse keeps 16 bits, for w 8.
    inverse = _inverse(tl.where(i > j, a, 0.0)) * strength[None, :]
    row_at = (first * value_heads + head) * 128 + (i * (value_heads * 128) + c[None, :])
    out = tl.dot((inverse * tl.exp(gates)[None, :]).to(tl.bfloat16), key)
    tl.store(w + row_at, out.to(tl.bfloat16), mask=live[:, None])
    high, low = high_and_low(inverse)
    out = tl.dot(low, value)
    out = tl.dot(high, value, out)
    tl.store(u + row_at, out.to(tl.bfloat16), mask=live[:, None])
    allow_next(EARLY)  # as late as this: what waits takes room from what works
