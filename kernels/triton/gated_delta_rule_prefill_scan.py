# SPDX-License-Identifier: Apache-2.0
"""The walk over the chunks of a prefill of the gated delta rule: output and final state.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl
from gated_delta_rule_common import clamped_seqlen, wait_for_previous


@triton.jit
def gated_delta_rule_prefill_scan(
    q,
    k,
    w,
    u,
    p,
    g_cumsum,
    initial_state,
    cu_seqlens,
    output,
    final_state,
    num_tokens,
    num_sequences,
    key_heads,
    value_heads,
    scale,
    has_initial_state,
    has_cu_seqlens,
    want_final_state,
    words,
    BLOCK_V: tl.constexpr,
    EARLY: tl.constexpr,
):
    """For each chunk, with S the state before it (docs/functions.md):

        v_new = u - w S; o = scale (exp(G) (q S) + p v_new)
        S <- exp(G_last) S + k^T (exp(G_last - G) v_new)

    q, k                        bfloat16 [num_tokens, key_heads, 128]
    w, u, p, g_cumsum           what gated_delta_rule_prefill_chunk wrote
    initial_state, final_state  float32 [num_sequences, value_heads, 128, 128], values contiguous;
                                may be the same memory
    cu_seqlens                  int32 (words 1) or int64 (2) [num_sequences + 1]; without: one
    output                      bfloat16 [num_tokens, value_heads, 128]
    grid                        num_sequences * value_heads * 128 / BLOCK_V: a program a sequence,
                                value head and block of values, the last fastest

    The columns of S do not mix, so a program walks with BLOCK_V of them. It holds S transposed: so
    results of products, S and v_new, are left factors of the next ones where they lie, in
    registers. What tensor descriptors fetch is all that lies in shared memory, and no product waits
    for a fence, as each would behind plain asynchronous copies (2.7 times the time on an H100).
    From sm_90 on descriptors take global scratch; before, the compiler makes plain loads of them.
    """
    wait_for_previous(EARLY)
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
    first_v = (tl.program_id(0) - pair * blocks) * BLOCK_V
    start = begin.to(tl.int64) * value_heads + head
    key_start = (begin.to(tl.int64) * key_heads + head // (value_heads // key_heads)) * 128
    pitch = value_heads * 128
    # Rows past the sequence's end are read as 0 and not written: its length is the descriptors'.
    rows_of = [length, 128]
    w_of = tl.make_tensor_descriptor(w + start * 128, rows_of, [pitch, 1], [64, 128])
    q_of = tl.make_tensor_descriptor(q + key_start, rows_of, [key_heads * 128, 1], [64, 128])
    k_of = tl.make_tensor_descriptor(k + key_start, rows_of, [key_heads * 128, 1], [64, 128])
    p_of = tl.make_tensor_descriptor(p + start * 64, [length, 64], [value_heads * 64, 1], [64, 64])
    u_of = tl.make_tensor_descriptor(u + start * 128, rows_of, [pitch, 1], [64, BLOCK_V])
    o_of = tl.make_tensor_descriptor(output + start * 128, rows_of, [pitch, 1], [64, BLOCK_V])
    gate_at = g_cumsum + start + t * value_heads
    key = tl.arange(0, 128)[None, :]
    value = first_v + tl.arange(0, BLOCK_V)[:, None]
    state_at = pair.to(tl.int64) * (128 * 128) + (key * 128 + value)

    state = tl.zeros([BLOCK_V, 128], tl.float32)
    if has_initial_state:
        state = tl.load(initial_state + state_at)
    for first in range(0, length, 64):
        gates_at = gate_at + first.to(tl.int64) * value_heads
        final = tl.minimum(length - first, 64) - 1
        gates = tl.load(gates_at, mask=t <= final, other=0.0)
        last = tl.load(g_cumsum + start + (first + final).to(tl.int64) * value_heads)
        rounded = state.to(tl.bfloat16)
        new = tl.trans(u_of.load([first, first_v])).to(tl.float32)
        new -= tl.dot(rounded, tl.trans(w_of.load([first, 0])))
        out = tl.dot(rounded, tl.trans(q_of.load([first, 0]))) * tl.exp(gates)[None, :]
        out = tl.dot(new.to(tl.bfloat16), tl.trans(p_of.load([first, 0])), out)
        new = (new * tl.exp(last - gates)[None, :]).to(tl.bfloat16)
        state = tl.dot(new, k_of.load([first, 0]), state * tl.exp(last))
        o_of.store([first, first_v], tl.trans((out * scale).to(tl.bfloat16)))
    if want_final_state:
        tl.store(final_state + state_at, state)
