# SPDX-License-Identifier: Apache-2.0
"""Variants, expressions, and golden data from the pack."""

import numpy as np
from abi_common import PLAIN, SIZE, given, out

from pegapack import (
    Arg,
    Constant,
    Data,
    Function,
    Golden,
    Kernel,
    Memory,
    Options,
    Output,
    Uniform,
    integer,
    stream,
    tensor,
)


def specialised_kernel(variant, divisible=False, unit_stride=False, pointers=False):
    return Kernel(
        source="triton/launch.py",
        function="specialised",
        arguments={
            "x": Arg("*fp32", divisible_by_16=pointers),
            "y": Arg("*fp32", divisible_by_16=pointers),
            "which": Arg("*i32"),
            "n": Arg("i32", divisible_by_16=divisible),
            "stride": Arg("i32", equal_to_1=unit_stride),
        },
        constexprs={"VARIANT": variant, "BLOCK": 128},
        grid=["cdiv(n, 128)", "1", "1"],
        options=PLAIN,
    )


def specialised_case(n, stride, variant):
    return Golden(
        f"n {n}, stride {stride}",
        {
            "x": Memory("float32", [n, stride], fill=Uniform(seed=9, low=-1, high=1)),
            "y": Output("float32", [n], atol=1e-6),
            "which": Output("int32", [1]),
            "n": n,
            "stride": stride,
        },
        lambda args: {"y": args["x"][:, 0] + 1, "which": np.array([variant])},
    )


SPECIALISED = Function(
    name="abi.specialised",
    doc="Variants for multiples of 16 (sizes, pointers) and for a stride of 1; says which ran",
    params=[
        given("x", "float32", "n, stride", "its first column is read"),
        out("y", "float32", "n"),
        out("which", "int32", "1"),
        integer("n", "elements", **SIZE),
        integer("stride", "of x, in elements", min=1, max=1024),
        stream(),
    ],
    kernels=[
        specialised_kernel(4, divisible=True, unit_stride=True, pointers=True),
        specialised_kernel(3, unit_stride=True),
        specialised_kernel(2, divisible=True, pointers=True),
        specialised_kernel(1),
    ],
    golden=[
        specialised_case(512, 1, 4),
        specialised_case(511, 1, 3),
        specialised_case(512, 3, 2),
        specialised_case(511, 3, 1),
    ],
)

EXPRESSIONS = Function(
    name="abi.expressions",
    doc="Arguments that are computed from the call's",
    params=[
        tensor("x", "its shape and strides count", dtype="float32", shape="R, C"),
        tensor(
            "results",
            "what the kernel was given",
            dtype="int64",
            shape="6",
            contiguous=True,
            output=True,
        ),
        integer("n", "a number", min=-(2**53) + 1, max=2**53 - 1),
    ],
    kernels=[
        Kernel(
            source="triton/launch.py",
            function="expressions",
            arguments={
                "out": Arg("*i64", "results"),
                "rounded": Arg("i32", "cdiv(n, 16) * 16"),
                "tensor_rows": Arg("i32", "shape(x, 0)"),
                "tensor_stride": Arg("i64", "stride(x, 0)"),
                "is_even": Arg("i1", "n % 2 == 0 and not n == 0"),
                "low": Arg("u8", "min(n / 7, C)"),
                "high": Arg("i64", "max(-n, R * C) - 1"),
            },
            grid=["1", "1", "1"],
            options=Options(num_warps=1, enable_fp_fusion=True),
        )
    ],
    golden=[
        Golden(
            f"n {n}",
            {
                "x": Memory("float32", [6, 10], fill=Constant(0)),
                "results": Output("int64", [6]),
                "n": n,
            },
            lambda args: {
                "results": np.array(
                    [
                        -(-args["n"] // 16) * 16,
                        6,
                        10,
                        int(args["n"] % 2 == 0 and args["n"] != 0),
                        min(args["n"] // 7, 10),
                        max(-args["n"], 60) - 1,
                    ]
                )
            },
        )
        for n in (1, 38, 1000)
    ],
)

FILLS = Function(
    name="abi.fills",
    doc="y = x + 1, for golden data that comes from the pack",
    params=[
        given("x", "float32", "capacity"),
        out("y", "float32", "capacity"),
        out("which", "int32", "1"),
        integer("capacity", "elements that there are", **SIZE),
        integer("n", "elements to do", **SIZE),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/launch.py",
            function="specialised",
            arguments={
                "x": Arg("*fp32"),
                "y": Arg("*fp32"),
                "which": Arg("*i32"),
                "n": Arg("i32"),
                "stride": Arg("i32", "1"),
            },
            constexprs={"VARIANT": 9, "BLOCK": 128},
            grid=["cdiv(n, 128)", "1", "1"],
            options=PLAIN,
        )
    ],
    golden=[
        Golden(
            "from a blob, with what is not a number",
            {
                "x": Memory(
                    "float32", [6], fill=Data(np.array([0.0, -1.5, np.nan, np.inf, -np.inf, 1e30]))
                ),
                "y": Output("float32", [6]),
                "which": Output("int32", [1]),
                "capacity": 6,
                "n": 6,
            },
            lambda args: {
                "y": (args["x"] + 1).astype(np.float32).astype(np.float64),
                "which": np.array([9]),
            },
        ),
        Golden(
            "nothing to do",
            {
                "x": Memory("float32", [4], fill=Constant(2)),
                "y": Output("float32", [4], fill=Constant(5)),
                "which": Output("int32", [1], fill=Constant(0)),
                "capacity": 4,
                "n": 0,
            },
            lambda args: {"y": np.full(4, 5.0), "which": np.array([0])},
        ),
    ],
)
