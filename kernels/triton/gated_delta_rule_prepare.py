# SPDX-License-Identifier: Apache-2.0
"""What comes before the chunks of the gated delta rule: q and k normalised, gates from projections.

kernels/qwen35.py says how it is compiled.
"""

import triton
import triton.language as tl


@triton.jit
def _normalized(x):
    """Rows of x divided by their length, in bfloat16: x / sqrt(sum x^2 + 1e-12)."""
    x = x.to(tl.float32)
    length = tl.sqrt_rn(tl.sum(x * x, axis=1) + 1e-12)
    return tl.div_rn(x, length[:, None] + tl.zeros_like(x)).to(tl.bfloat16)


@triton.jit
def _softplus(x):
    """log(1 + e^x), accurate where it is tiny; x itself above 20."""
    e = tl.exp(tl.minimum(x, 20.0))
    # log(1 + e) = 2 artanh(e / (2 + e)): where e is small, 1 + e would round most of it away.
    s = e / (2.0 + e)
    s2 = s * s
    small = 2.0 * s * (1.0 + s2 * (1 / 3 + s2 * (1 / 5 + s2 * (1 / 7 + s2 * (1 / 9)))))
    return tl.where(x > 20.0, x, tl.where(e < 0.25, small, tl.log(1.0 + e)))


@triton.jit
def _gates(b, a, dt_bias, a_log, g, beta, first, rows, num_value_heads, want_g, want_beta):
    """g = -exp(a_log) softplus(a + dt_bias) and beta = sigmoid(b) of `rows` tokens from `first`.

    Tokens and heads are one run of memory.
    """
    start = first.to(tl.int64) * num_value_heads
    count = rows * num_value_heads
    for base in range(0, count, 512):
        at = base + tl.arange(0, 512)
        live = at < count
        head = at % num_value_heads
        if want_g:
            rate = tl.exp(tl.load(a_log + head, mask=live, other=0.0))
            x = tl.load(a + start + at, mask=live, other=0.0).to(tl.float32)
            x += tl.load(dt_bias + head, mask=live, other=0.0).to(tl.float32)
            tl.store(g + start + at, -rate * _softplus(x), mask=live)
        if want_beta:
            x = tl.load(b + start + at, mask=live, other=0.0).to(tl.float32)
            tl.store(beta + start + at, 1.0 / (1.0 + tl.exp(-x)), mask=live)


@triton.jit
def gated_delta_rule_chunk_prepare(
    qkv, b, a, dt_bias, a_log, q, k, v, g, beta, key_heads, value_heads, qkv_dim, seq_len
):
    """q and k normalised and, as v, expanded to the value heads; g and beta (docs/functions.md).

    qkv      bfloat16 [seq_len, qkv_dim]: key_heads rows of q, as many of k, value_heads of v, each
             of 128; further columns are skipped
    b, a     bfloat16 [seq_len, value_heads]; dt_bias bfloat16, a_log float32 [value_heads]
    q, k, v  bfloat16 [seq_len, value_heads, 128]; g, beta float32 [seq_len, value_heads]
    grid     cdiv(seq_len, 16) * (key_heads + 1), heads fastest; value_heads is a multiple of
             key_heads

    A program takes 16 tokens of one key head and of its value heads; the last of each 16 tokens
    takes the gates of all heads.
    """
    block = tl.program_id(0) // (key_heads + 1)
    head = tl.program_id(0) - block * (key_heads + 1)
    first = block * 16
    rows = tl.minimum(seq_len - first, 16)
    if head == key_heads:
        _gates(b, a, dt_bias, a_log, g, beta, first, rows, value_heads, True, True)
    else:
        t = tl.arange(0, 16)[:, None]
        c = tl.arange(0, 128)[None, :]
        live = (t < rows) & (c < 128)
        copies = value_heads // key_heads
        # Every row begins at a multiple of 32 bytes: the variant's condition on qkv_dim.
        source = qkv + (first + t).to(tl.int64) * qkv_dim + c
        query = _normalized(tl.load(source + head * 128, mask=live, other=0.0))
        key = _normalized(tl.load(source + (key_heads + head) * 128, mask=live, other=0.0))
        for copy in range(copies):
            value_head = head * copies + copy
            value = tl.load(source + (2 * key_heads + value_head) * 128, mask=live, other=0.0)
            to = ((first + t).to(tl.int64) * value_heads + value_head) * 128 + c
            tl.store(q + to, query, mask=live)
            tl.store(k + to, key, mask=live)
            tl.store(v + to, value, mask=live)


@triton.jit
def gated_delta_rule_prefill_prepare(
    qkv,
    b,
    a,
    dt_bias,
    a_log,
    q,
    k,
    g,
    beta,
    num_tokens,
    key_heads,
    value_heads,
    qkv_dim,
    want_g,
    want_beta,
):
    """q and k normalised, not expanded; g and beta where wanted. v stays where it is in qkv.

    As gated_delta_rule_chunk_prepare, but q and k are [num_tokens, key_heads, 128].
    """
    block = tl.program_id(0) // (key_heads + 1)
    head = tl.program_id(0) - block * (key_heads + 1)
    first = block * 16
    rows = tl.minimum(num_tokens - first, 16)
    if head == key_heads:
        _gates(b, a, dt_bias, a_log, g, beta, first, rows, value_heads, want_g, want_beta)
    else:
        t = tl.arange(0, 16)[:, None]
        c = tl.arange(0, 128)[None, :]
        live = (t < rows) & (c < 128)
        source = qkv + (first + t).to(tl.int64) * qkv_dim + c
        query = tl.load(source + head * 128, mask=live, other=0.0)
        key = tl.load(source + (key_heads + head) * 128, mask=live, other=0.0)
        to = ((first + t).to(tl.int64) * key_heads + head) * 128 + c
        tl.store(q + to, _normalized(query), mask=live)
        tl.store(k + to, _normalized(key), mask=live)


@triton.jit
def gated_delta_rule_prefill_normalize(q, k, q_out, k_out, num_tokens, key_heads):
    """Rows of q and k, [num_tokens * key_heads, 128], divided by their lengths; 32 a program."""
    block = tl.program_id(0).to(tl.int64) * 32
    t = tl.arange(0, 32)[:, None]
    c = tl.arange(0, 128)[None, :]
    live = (t < num_tokens.to(tl.int64) * key_heads - block) & (c < 128)
    at = block * 128 + t * 128 + c
    query = tl.load(q + at, mask=live, other=0.0)
    key = tl.load(k + at, mask=live, other=0.0)
    tl.store(q_out + at, _normalized(query), mask=live)
    tl.store(k_out + at, _normalized(key), mask=live)
