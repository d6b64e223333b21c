# SPDX-License-Identifier: Apache-2.0
"""Chunk A of the gated delta rule: what the chunk solve inverts.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl
from gated_delta_rule_common import decay


@triton.jit
def gated_delta_rule_chunk_a(k, g_cumsum, beta, a_tril, seq_len, num_value_heads):
    """A[i, j] = beta_i exp(G_i - G_j) (k_i . k_j) below the diagonal, else 0 (docs/functions.md).

    k               bfloat16 [seq_len, num_value_heads, 128]
    g_cumsum, beta  float32 [seq_len, num_value_heads]
    a_tril          float32 [seq_len, num_value_heads, 64]: row t is row t % 64 of its chunk
    grid            one program a chunk and head, heads fastest: cdiv(seq_len, 64) * num_value_heads
    """
    chunk = tl.program_id(0) // num_value_heads
    head = tl.program_id(0) - chunk * num_value_heads
    rows = seq_len - chunk * 64
    first = chunk.to(tl.int64) * 64 * num_value_heads + head
    t = tl.arange(0, 64)
    live = t < rows
    c = tl.arange(0, 128)
    at = t * num_value_heads
    key = tl.load(k + first * 128 + (at[:, None] * 128 + c[None, :]), mask=live[:, None], other=0.0)
    gates = tl.load(g_cumsum + first + at, mask=live, other=0.0)
    strength = tl.load(beta + first + at, mask=live, other=0.0)
    # The mask says it all for rows past the end: their keys are 0, and so are their products.
    products = tl.dot(key, tl.trans(key)) * strength[:, None]
    a = decay(gates, (t[:, None] > t[None, :]) & live[:, None]) * products
    tl.store(a_tril + first * 64 + (at[:, None] * 64 + t[None, :]), a, mask=live[:, None])
