# SPDX-License-Identifier: Apache-2.0
"""What the kernels compute, in float64 with numpy: the golden cases' references."""

import numpy as np

CHUNK = 64


def chunk_solve(args):
    """(I + A)^-1 of each chunk and head, A the strict lower triangle, by forward substitution."""
    a = args["a_tril_ptr"]
    tokens, heads = args["seq_len"], args["num_value_heads"]
    inverse = np.zeros((tokens, heads, CHUNK))
    for first in range(0, tokens, CHUNK):
        rows = min(CHUNK, tokens - first)
        for head in range(heads):
            lower = np.tril(a[first : first + rows, head, :rows], -1)
            x = np.eye(rows)
            for i in range(1, rows):
                x[i] -= lower[i, :i] @ x[:i]
            inverse[first : first + rows, head, :rows] = x
    return {"a_inv_ptr": inverse}


def normalized(x):
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + 1e-12)


def gates(b, a, dt_bias, a_log):
    """g, beta"""
    x = a + dt_bias
    softplus = np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20))))
    return -np.exp(a_log) * softplus, 1 / (1 + np.exp(-b))


def chunks(begin, end, heads):
    """(tokens, head) of each chunk and head of a sequence."""
    for first in range(begin, end, CHUNK):
        for head in range(heads):
            yield slice(first, min(first + CHUNK, end)), head


def cumsum(g, begin=0, end=None):
    total = np.zeros_like(g)
    for at, head in chunks(begin, len(g) if end is None else end, g.shape[1]):
        total[at, head] = np.cumsum(np.maximum(g[at, head], -128))
    return total


def decay(g_cumsum):
    """exp(G_i - G_j) for i >= j, else 0"""
    difference = g_cumsum[:, None] - g_cumsum[None, :]
    return np.tril(np.exp(np.minimum(difference, 0)))


def recompute(k, v, beta, inverse, g_cumsum):
    """w, u of one chunk and head"""
    return inverse @ ((beta * np.exp(g_cumsum))[:, None] * k), inverse @ (beta[:, None] * v)


def step(k, w, u, g_cumsum, state):
    """v_new and the state after one chunk"""
    new = u - w @ state
    fade = np.exp(g_cumsum[-1] - g_cumsum)
    return new, np.exp(g_cumsum[-1]) * state + k.T @ (fade[:, None] * new)


def output(q, scores, new, g_cumsum, state, scale):
    return scale * (np.exp(g_cumsum)[:, None] * (q @ state) + scores @ new)
