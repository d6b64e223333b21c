# SPDX-License-Identifier: Apache-2.0
"""A kernel with the chunk solve's parameters, in words that every Triton since 3.0 compiles: one element a program."""

import triton
import triton.language as tl


@triton.jit
def one_element(a_tril, a_inv, seq_len, num_value_heads):
    i = tl.program_id(0)
    there = i < seq_len * num_value_heads
    element = tl.load(a_tril + i, mask=there, other=0.0)
    tl.store(a_inv + i, element.to(tl.bfloat16), mask=there)
