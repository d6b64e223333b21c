# SPDX-License-Identifier: Apache-2.0
"""The chunk solve."""

from pegapack import (
    Arg,
    Function,
    Golden,
    Kernel,
    Memory,
    Options,
    Output,
    Uniform,
    integer,
    stream,
)

from .reference import chunk_solve
from .words import CHUNK, INT32_MAX, NAME, array

MAX_HEADS = 2**19  # the kernel's offsets within a chunk are 32-bit
PROGRAMS = "cdiv(seq_len, 64) * num_value_heads"


def solve_case(tokens, heads):
    shape = [tokens, heads, CHUNK]
    return Golden(
        name=f"{tokens} tokens, {heads} heads",
        args={
            # Also on and above the diagonal, where the kernel must not look.
            "a_tril_ptr": Memory("float32", shape, fill=Uniform(seed=7, low=-0.1, high=0.1)),
            "a_inv_ptr": Output("bfloat16", shape, atol=1e-3),
            "seq_len": tokens,
            "num_value_heads": heads,
        },
        reference=chunk_solve,
    )


def solve_kernel(options, when=()):
    return Kernel(
        source="triton/gated_delta_rule_chunk_solve.py",
        function="gated_delta_rule_chunk_solve",
        # Only the pointers' alignment is assumed; the integers are not specialised.
        arguments={
            "a_tril": Arg("*fp32", "a_tril_ptr", divisible_by_16=True),
            "a_inv": Arg("*bf16", "a_inv_ptr", divisible_by_16=True),
            "seq_len": Arg("i32"),
            "num_value_heads": Arg("i32"),
        },
        grid=[PROGRAMS, "1", "1"],
        options=options,
        when=when,
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
        # Where the time of one program counts: about two of them a multiprocessor.
        solve_kernel(
            Options(num_warps=2, num_stages=1, enable_fp_fusion=True),
            when=[f"{PROGRAMS} <= 256"],
        ),
        # 168 registers a thread let twelve warps share a multiprocessor.
        solve_kernel(
            Options(
                num_warps=1,
                num_stages=1,
                maxnreg=168,
                sched4reg=True,
                enable_fp_fusion=True,
            )
        ),
    ],
    # For each of the two variants.
    golden=[solve_case(tokens=70, heads=2), solve_case(tokens=2, heads=257)],
)
