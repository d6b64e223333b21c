# SPDX-License-Identifier: Apache-2.0
"""Chunk o of the gated delta rule: the output.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl
from gated_delta_rule_common import decay


@triton.jit
def gated_delta_rule_chunk_o(
    q, k, v_new, chunk_state, g_cumsum, output, seq_len, num_value_heads, scale
):
    """o = scale (exp(G) (q S) + tril(exp(G_i - G_j) q_i . k_j) v_new) (docs/functions.md).

    q, k, v_new, output  bfloat16 [seq_len, num_value_heads, 128]
    chunk_state          float32 [cdiv(seq_len, 64), num_value_heads, 128, 128], values contiguous
    g_cumsum             float32 [seq_len, num_value_heads]
    grid                 one program a chunk and head, heads fastest:
                         cdiv(seq_len, 64) * num_value_heads
    """
    chunk = tl.program_id(0) // num_value_heads
    head = tl.program_id(0) - chunk * num_value_heads
    rows = seq_len - chunk * 64
    first = chunk.to(tl.int64) * 64 * num_value_heads + head
    t = tl.arange(0, 64)
    live = t < rows
    c = tl.arange(0, 128)
    at = t * num_value_heads
    rows_at = first * 128 + (at[:, None] * 128 + c[None, :])
    query = tl.load(q + rows_at, mask=live[:, None], other=0.0)
    key = tl.load(k + rows_at, mask=live[:, None], other=0.0)
    gates = tl.load(g_cumsum + first + at, mask=live, other=0.0)
    state_at = (chunk.to(tl.int64) * num_value_heads + head) * (128 * 128)
    state = tl.load(chunk_state + state_at + (c[:, None] * 128 + c[None, :]))
    value = tl.load(v_new + rows_at, mask=live[:, None], other=0.0)
    out = tl.dot(query, state.to(tl.bfloat16)) * tl.exp(gates)[:, None]
    near = tl.dot(query, tl.trans(key))
    near *= decay(gates, (t[:, None] >= t[None, :]) & live[:, None])
    out = tl.dot(near.to(tl.bfloat16), value, out) * scale
    tl.store(output + rows_at, out.to(tl.bfloat16), mask=live[:, None])
