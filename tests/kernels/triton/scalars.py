# SPDX-License-Identifier: Apache-2.0
"""Scalars of every type between pointers, in an order that leaves holes in the parameters."""

import triton
import triton.language as tl


@triton.jit
def scalars(
    a_i8,
    out_i8,
    b_fp64,
    c_i1,
    out_fp64,
    out_i1,
    d_u16,
    e_u8,
    f_i64,
    out_u16,
    out_u8,
    out_i64,
    g_bf16,
    h_i32,
    i_fp16,
    out_bf16,
    out_i32,
    out_fp16,
    j_i16,
    k_fp32,
    l_u32,
    out_i16,
    out_fp32,
    out_u32,
    out_u64,
    m_u64,
    out_last,
    last_u8,
):
    tl.store(out_i8, a_i8)
    tl.store(out_fp64, b_fp64)
    tl.store(out_i1, c_i1.to(tl.int8))
    tl.store(out_u16, d_u16)
    tl.store(out_u8, e_u8)
    tl.store(out_i64, f_i64)
    tl.store(out_bf16, g_bf16)
    tl.store(out_i32, h_i32)
    tl.store(out_fp16, i_fp16)
    tl.store(out_i16, j_i16)
    tl.store(out_fp32, k_fp32)
    tl.store(out_u32, l_u32)
    tl.store(out_u64, m_u64)
    # The hidden parameters follow this one byte.
    tl.store(out_last, last_u8)
