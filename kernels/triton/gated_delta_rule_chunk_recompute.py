# SPDX-License-Identifier: Apache-2.0
"""Chunk recompute of the gated delta rule: w and u from the inverse.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl
from gated_delta_rule_common import high_and_low


@triton.jit
def gated_delta_rule_chunk_recompute(k, v, beta, w, u, a_inv, g_cumsum, seq_len, num_value_heads):
    """u = A_inv (beta v), w = A_inv (beta exp(G) k) of each chunk and head (docs/functions.md).

    k, v, w, u      bfloat16 [seq_len, num_value_heads, 128]
    beta, g_cumsum  float32 [seq_len, num_value_heads]
    a_inv           bfloat16 [seq_len, num_value_heads, 64]: row t is row t % 64 of its chunk
    grid            one program a chunk and head, heads fastest: cdiv(seq_len, 64) * num_value_heads

    beta and exp(G) scale the columns of A_inv: k and v stay as exact as they came. For u, whose
    error reaches the output undamped, the scaled A_inv keeps 16 bits, for w 8.
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
    inverse_at = first * 64 + (at[:, None] * 64 + t[None, :])
    value = tl.load(v + rows_at, mask=live[:, None], other=0.0)
    # Columns past the end belong to no token: nothing there has influence.
    inverse = tl.load(a_inv + inverse_at, mask=live[:, None] & live[None, :], other=0.0)
    strength = tl.load(beta + first + at, mask=live, other=0.0)
    gates = tl.load(g_cumsum + first + at, mask=live, other=0.0)
    inverse = inverse.to(tl.float32) * strength[None, :]
    high, low = high_and_low(inverse)
    out = tl.dot(low, value)
    out = tl.dot(high, value, out)
    tl.store(u + rows_at, out.to(tl.bfloat16), mask=live[:, None])
    key = tl.load(k + rows_at, mask=live[:, None], other=0.0)
    out = tl.dot((inverse * tl.exp(gates)[None, :]).to(tl.bfloat16), key)
    tl.store(w + rows_at, out.to(tl.bfloat16), mask=live[:, None])
