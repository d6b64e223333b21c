# SPDX-License-Identifier: Apache-2.0
"""A whole prefill of the gated delta rule in one launch, for short sequences.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl
from gated_delta_rule_common import (
    allow_next,
    clamped_seqlen,
    cumulative_gates,
    decay,
    high_and_low,
    wait_for_previous,
)
from gated_delta_rule_prefill_chunk import _inverse


@triton.jit
def _chunk(
    state, first, length, with_state, q, k, v, g, beta, output, key_at, gate_at, value_at, out_at,
    key_heads, value_heads, v_stride, scale, BLOCK_V: tl.constexpr,
):
    """The tokens from `first` on, at most 64: their output, and the state after them."""
    t = tl.arange(0, 64)
    i = t[:, None]
    j = t[None, :]
    live = t < length - first
    token = tl.cast(first, tl.int64)
    key_now = token * key_heads * 128 + key_at
    gate_now = token * value_heads + gate_at
    key = tl.load(k + key_now, mask=live[:, None], other=0.0)
    gates = tl.load(g + gate_now, mask=live, other=0.0)
    strength = tl.load(beta + gate_now, mask=live, other=0.0)
    query = tl.load(q + key_now, mask=live[:, None], other=0.0)
    value = tl.load(v + (token * v_stride + value_at), mask=live[:, None], other=0.0)
    # Gates of rows past the end are 0: the sum's last entry is that of the last token.
    last = tl.sum(tl.maximum(gates, -128.0), 0)
    gates = cumulative_gates(gates)
    fade = decay(gates, i >= j)
    products = tl.dot(key, tl.trans(key))
    a = tl.where(i > j, products * fade * strength[:, None], 0.0)
    inverse = _inverse(a)
    inverse = inverse * strength[None, :]
    scores = (tl.dot(query, tl.trans(key)) * fade).to(tl.bfloat16)
    new = tl.trans(value)
    out = tl.zeros([BLOCK_V, 64], tl.float32)
    if with_state:
        rounded = state.to(tl.bfloat16)
        grown = tl.exp(gates)[None, :]
        new = (new.to(tl.float32) - tl.dot(rounded, tl.trans(key)) * grown).to(tl.bfloat16)
        out = tl.dot(rounded, tl.trans(query)) * grown
    # What reaches the output undamped keeps 16 bits of the inverse.
    high, low = high_and_low(inverse)
    mixed = tl.dot(new, tl.trans(low))
    mixed = tl.dot(new, tl.trans(high), mixed)
    out = tl.dot(mixed.to(tl.bfloat16), tl.trans(scores), out)
    faded = (mixed * tl.exp(last - gates)[None, :]).to(tl.bfloat16)
    state = tl.dot(faded, key, state * tl.exp(last))
    tl.store(
        output + (token * value_heads * 128 + out_at),
        tl.trans((out * scale).to(tl.bfloat16)),
        mask=live[:, None],
    )
    return state


@triton.jit
def gated_delta_rule_prefill_fused(
    q,
    k,
    v,
    g,
    beta,
    initial_state,
    cu_seqlens,
    output,
    final_state,
    num_tokens,
    num_sequences,
    key_heads,
    value_heads,
    v_stride,
    scale,
    has_initial_state,
    has_cu_seqlens,
    want_final_state,
    words,
    BLOCK_V: tl.constexpr,
    EARLY: tl.constexpr,
    SINGLE: tl.constexpr,
):
    """The recurrence chunk by chunk (docs/functions.md), with S the state before each:

        new = A_inv (beta (v - exp(G) (k S))); o = scale (exp(G) (q S) + p new)
        S <- exp(G_last) S + k^T (exp(G_last - G) new)

    q, k                        bfloat16 [num_tokens, key_heads, 128], rows normalised
    v                           bfloat16, v_stride elements from token to token, value_heads rows of
                                128 in each
    g, beta                     float32 [num_tokens, value_heads]
    initial_state, final_state  float32 [num_sequences, value_heads, 128, 128], values contiguous;
                                may be the same memory
    cu_seqlens                  int32 (words 1) or int64 (2) [num_sequences + 1]; without: one
    output                      bfloat16 [num_tokens, value_heads, 128]
    grid                        num_sequences * value_heads * 128 / BLOCK_V: a program a sequence,
                                value head and block of values, the last fastest

    What gated_delta_rule_prefill_chunk and _scan do, with nothing in memory between them; each
    block of values makes A_inv and p for itself. As there, S is held transposed, so that results of
    products are left factors of the next ones where they lie, in registers.
    """
    wait_for_previous(EARLY)
    allow_next(EARLY)
    blocks: tl.constexpr = 128 // BLOCK_V
    pair = tl.program_id(0) // blocks
    sequence = pair // value_heads
    head = pair - sequence * value_heads
    begin = 0
    end = num_tokens
    if has_cu_seqlens:
        begin = clamped_seqlen(cu_seqlens, sequence, words, num_tokens)
        end = clamped_seqlen(cu_seqlens, sequence + 1, words, num_tokens)
    length = end - begin
    t = tl.arange(0, 64)
    i = t[:, None]
    c = tl.arange(0, 128)[None, :]
    first_v = (tl.program_id(0) - pair * blocks) * BLOCK_V
    key_head = head // (value_heads // key_heads)
    gate_at = tl.cast(begin, tl.int64) * value_heads + head + t * value_heads
    key_at = (tl.cast(begin, tl.int64) * key_heads + key_head) * 128 + (i * (key_heads * 128) + c)
    column = first_v + tl.arange(0, BLOCK_V)
    value_at = tl.cast(begin, tl.int64) * v_stride + head * 128 + (i * v_stride + column[None, :])
    out_at = (tl.cast(begin, tl.int64) * value_heads + head) * 128 + (
        i * (value_heads * 128) + column[None, :]
    )
    state_at = pair.to(tl.int64) * (128 * 128) + (c * 128 + column[:, None])

    state = tl.zeros([BLOCK_V, 128], tl.float32)
    if has_initial_state:
        state = tl.load(initial_state + state_at)
    # No loop where there is nothing to repeat; what it would keep would not fit registers.
    if SINGLE:
        if length > 0:
            state = _chunk(
                state, 0, length, has_initial_state != 0, q, k, v, g, beta, output, key_at, gate_at,
                value_at, out_at, key_heads, value_heads, v_stride, scale, BLOCK_V,
            )
    else:
        # What a chunk needs is computed anew for each: kept over the loop, it would not fit.
        for first in tl.range(0, length, 64, disable_licm=True):
            state = _chunk(
                state, first, length, (first > 0) | (has_initial_state != 0), q, k, v, g, beta,
                output, key_at, gate_at, value_at, out_at, key_heads, value_heads, v_stride, scale,
                BLOCK_V,
            )
    if want_final_state:
        tl.store(final_state + state_at, state)
