# SPDX-License-Identifier: Apache-2.0
"""The chunk solve."""

import numpy as np
from pegapack import (
    Arg,
    Data,
    Function,
    Golden,
    Kernel,
    Memory,
    Output,
    Uniform,
    integer,
    stream,
)

from .reference import chunk_solve
from .words import CHUNK, INT32_MAX, NAME, array, early, options

MAX_HEADS = 2**19  # the kernel's offsets within a chunk are 32-bit
PROGRAMS = "cdiv(seq_len, 64) * num_value_heads"


def solve_case(tokens, heads, fill, name="", atol=1e-3, rtol=0.0):
    shape = [tokens, heads, CHUNK]
    return Golden(
        name=f"{tokens} tokens, {heads} heads{name}",
        args={
            # Also on and above the diagonal, where the kernel must not look.
            "a_tril_ptr": Memory("float32", shape, fill=fill),
            "a_inv_ptr": Output("bfloat16", shape, atol=atol, rtol=rtol),
            "seq_len": tokens,
            "num_value_heads": heads,
        },
        reference=chunk_solve,
    )


def below(high):
    return Uniform(seed=7, low=-high, high=high)


def few_large():
    """On and below the diagonal of 16 x 16 blocks, and where the inverse alone is past 65504."""
    a = np.random.default_rng(7).uniform(-0.1, 0.1, [41, 3, CHUNK])
    a[5, 0, 2] = 3e5
    a[40, 1, 3] = -2e6
    a[9, 2, 3] = a[3, 2, 2] = 4e4
    return Data(a)


def solve_kernel(function, how, options, when=()):
    return Kernel(
        source="triton/gated_delta_rule_chunk_solve.py",
        function=function,
        # Only the pointers' alignment is assumed; the integers are not specialised.
        arguments={
            "a_tril": Arg("*fp32", "a_tril_ptr", divisible_by_16=True),
            "a_inv": Arg("*bf16", "a_inv_ptr", divisible_by_16=True),
            "seq_len": Arg("i32"),
            "num_value_heads": Arg("i32"),
        },
        grid=[PROGRAMS, "1", "1"],
        when=when,
        **early(options, how=how),
    )


SOLVE = Function(
    name=NAME + "chunk_solve",
    doc="Inverts I + A, A strictly lower triangular, for each chunk of 64 tokens and head",
    params=[
        array(
            "a_tril_ptr",
            "A; only what is below the diagonal of each chunk is read",
            "float32",
            "seq_len, num_value_heads, 64",
        ),
        array(
            "a_inv_ptr",
            "(I + A)^-1: lower triangle with its unit diagonal, 0 above",
            "bfloat16",
            "seq_len, num_value_heads, 64",
            output=True,
        ),
        integer("seq_len", "tokens", min=0, max=INT32_MAX),
        integer("num_value_heads", "value heads", min=0, max=MAX_HEADS),
        stream(),
    ],
    kernels=[
        # Where the time of one program counts, and what it waits for.
        solve_kernel(
            "gated_delta_rule_chunk_solve", 1, options(num_warps=1), [f"{PROGRAMS} <= 512"]
        ),
        # As many registers as let 16 warps share a multiprocessor.
        solve_kernel("gated_delta_rule_chunk_solve_halves", 2, options(num_warps=2, maxnreg=128)),
    ],
    # For each of the two variants, and with factors past float16: among the many a part of them.
    golden=[
        solve_case(70, 2, below(0.1)),
        solve_case(41, 3, few_large(), ", large A", atol=1e-2, rtol=2**-7),
        solve_case(2, 513, below(1e5), ", large A", rtol=2**-7),
    ],
)
