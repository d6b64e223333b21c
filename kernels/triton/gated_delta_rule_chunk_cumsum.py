# SPDX-License-Identifier: Apache-2.0
"""Chunk cumsum of the gated delta rule: prefix sums of the log gates, anew for each chunk.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl
from gated_delta_rule_common import cumulative_gates


@triton.jit
def gated_delta_rule_chunk_cumsum(g, g_cumsum, seq_len, num_value_heads):
    """G of each chunk of 64 tokens and each value head (docs/functions.md).

    g, g_cumsum  float32 [seq_len, num_value_heads], contiguous; gates below -128 count as -128
    grid         cdiv(seq_len, 64) * cdiv(num_value_heads, 16): a program takes 16 heads of a chunk
    """
    blocks = (num_value_heads + 15) // 16
    chunk = tl.program_id(0) // blocks
    block = tl.program_id(0) - chunk * blocks
    rows = seq_len - chunk * 64
    t = tl.arange(0, 64)[:, None]
    head = block * 16 + tl.arange(0, 16)[None, :]
    live = (t < rows) & (head < num_value_heads)
    at = chunk.to(tl.int64) * 64 * num_value_heads + (t * num_value_heads + head)
    tl.store(g_cumsum + at, cumulative_gates(tl.load(g + at, mask=live, other=0.0)), mask=live)
