# SPDX-License-Identifier: Apache-2.0
"""Chunk state of the gated delta rule: the recurrence from chunk to chunk.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl


@triton.jit
def gated_delta_rule_chunk_state(
    k,
    w,
    u,
    g_cumsum,
    initial_state,
    chunk_state,
    v_new,
    final_state,
    seq_len,
    num_value_heads,
    has_initial_state,
    want_final_state,
    BLOCK_V: tl.constexpr,
):
    """v_new = u - w S; S <- exp(G_last) S + k^T (exp(G_last - G) v_new) (docs/functions.md).

    k, w, u, v_new              bfloat16 [seq_len, num_value_heads, 128]
    g_cumsum                    float32 [seq_len, num_value_heads]
    initial_state, final_state  float32 [num_value_heads, 128, 128], values contiguous
    chunk_state                 float32 [cdiv(seq_len, 64), num_value_heads, 128, 128]: S before it
    grid                        128 / BLOCK_V * num_value_heads, blocks of values fastest

    A program walks all chunks for BLOCK_V columns of S, which do not mix. It holds S transposed and
    fetches with tensor descriptors, as gated_delta_rule_prefill_scan does, for its reasons.
    """
    blocks: tl.constexpr = 128 // BLOCK_V
    head = tl.program_id(0) // blocks
    t = tl.arange(0, 64)
    first_v = (tl.program_id(0) - head * blocks) * BLOCK_V
    start = head.to(tl.int64) * 128
    pitch = num_value_heads * 128
    # Rows past the end are read as 0 and not written: the descriptors know the length.
    rows_of = [seq_len, 128]
    w_of = tl.make_tensor_descriptor(w + start, rows_of, [pitch, 1], [64, 128])
    k_of = tl.make_tensor_descriptor(k + start, rows_of, [pitch, 1], [64, 128])
    u_of = tl.make_tensor_descriptor(u + start, rows_of, [pitch, 1], [64, BLOCK_V])
    new_of = tl.make_tensor_descriptor(v_new + start, rows_of, [pitch, 1], [64, BLOCK_V])
    gate_at = g_cumsum + head + t * num_value_heads
    key = tl.arange(0, 128)[None, :]
    value = first_v + tl.arange(0, BLOCK_V)[:, None]
    state_at = head.to(tl.int64) * (128 * 128) + (key * 128 + value)

    state = tl.zeros([BLOCK_V, 128], tl.float32)
    if has_initial_state:
        state = tl.load(initial_state + state_at)
    for first in range(0, seq_len, 64):
        gates_at = gate_at + first.to(tl.int64) * num_value_heads
        final = tl.minimum(seq_len - first, 64) - 1
        gates = tl.load(gates_at, mask=t <= final, other=0.0)
        last = tl.load(g_cumsum + head + (first + final).to(tl.int64) * num_value_heads)
        skip = (first // 64).to(tl.int64) * num_value_heads * (128 * 128)
        new = tl.trans(u_of.load([first, first_v])).to(tl.float32)
        new -= tl.dot(state.to(tl.bfloat16), tl.trans(w_of.load([first, 0])))
        tl.store(chunk_state + skip + state_at, state)
        new_of.store([first, first_v], tl.trans(new.to(tl.bfloat16)))
        new = (new * tl.exp(last - gates)[None, :]).to(tl.bfloat16)
        state = tl.dot(new, k_of.load([first, 0]), state * tl.exp(last))
    if want_final_state:
        tl.store(final_state + state_at, state)
