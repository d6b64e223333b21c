# SPDX-License-Identifier: Apache-2.0
"""Tensor descriptors, from the host and made in the kernel."""

import math

import numpy as np
from abi_common import PLAIN, POINTEE, SIZE, given, out

from pegapack import (
    Arg,
    Constant,
    Descriptor,
    Function,
    Golden,
    Kernel,
    Memory,
    Output,
    Uniform,
    integer,
    stream,
    tensor,
)


def descriptor_copy(rank, dtype, shape, block):
    """Copies x to y block by block; `dims` receives shape and strides as the kernel has them."""
    triton_type = POINTEE[dtype]
    symbols = ["A", "B", "C", "D", "E"][5 - rank :]
    steps = [f"cdiv({s}, {b})" for s, b in zip(symbols, block, strict=True)]
    arguments = {
        "x": Descriptor(triton_type, block),
        "y": Descriptor(triton_type, block),
        "dims": Arg("*i64"),
    }
    constexprs = {f"B{i}": b for i, b in enumerate(block) if b > 1 or rank < 4}
    if rank <= 3:
        grid = steps + ["1"] * (3 - rank)
    else:
        grid = [" * ".join(steps[: rank - 2]), *steps[rank - 2 :]]
        arguments["N1"] = Arg("i32", steps[1])
        if rank == 5:
            arguments["N2"] = Arg("i32", steps[2])
    name = f"abi.descriptor_{rank}d_{dtype}"
    strides = [math.prod(shape[i + 1 :]) for i in range(rank)]
    text = ", ".join(symbols)
    return Function(
        name=name,
        doc=f"Copies a {dtype} tensor of rank {rank} by host tensor descriptors",
        params=[
            tensor("x", "source", dtype=dtype, shape=text),
            tensor("y", "target", dtype=dtype, shape=text, output=True),
            tensor(
                "dims",
                "shape, then strides, as the kernel sees them",
                dtype="int64",
                shape=str(2 * rank),
                contiguous=True,
                output=True,
            ),
        ],
        kernels=[
            Kernel(
                source="triton/descriptors.py",
                function=f"copy_{rank}d",
                arguments=arguments,
                constexprs=constexprs,
                grid=grid,
                options=PLAIN,
            )
        ],
        golden=[
            Golden(
                "with a part of a block at each end",
                {
                    "x": Memory(dtype, shape, fill=Uniform(seed=rank, low=-100, high=100)),
                    "y": Output(dtype, shape, fill=Constant(-7)),
                    "dims": Output("int64", [2 * rank]),
                },
                lambda args: {"y": args["x"], "dims": np.array(list(shape) + strides)},
            )
        ],
    )


DESCRIPTOR_SHAPES = {
    1: ([1000], [256]),
    2: ([70, 88], [32, 64]),
    3: ([5, 37, 24], [2, 16, 32]),
    4: ([3, 5, 9, 40], [1, 2, 8, 32]),
    5: ([2, 3, 5, 7, 24], [1, 1, 2, 4, 16]),
}


def descriptor_padding(dtype, padding):
    """Loads one block that is larger than the tensor."""
    value = {"zero": 0.0, "nan": np.nan}[padding]

    def reference(args):
        block = np.full((16, 32), value)
        block[:5, :24] = args["x"]
        return {"y": block}

    return Function(
        name=f"abi.descriptor_{padding}_{dtype}",
        doc=f"What a descriptor of {dtype} reads out of bounds: {padding}",
        params=[
            tensor("x", "source", dtype=dtype, shape="A, B", contiguous=True),
            tensor("y", "a whole block", dtype=dtype, shape="16, 32", contiguous=True, output=True),
        ],
        kernels=[
            Kernel(
                source="triton/descriptors.py",
                function="out_of_bounds",
                arguments={
                    "x": Descriptor(POINTEE[dtype], [16, 32], padding=padding),
                    "y": Arg("*" + POINTEE[dtype]),
                },
                constexprs={"B0": 16, "B1": 32},
                grid=["1", "1", "1"],
                options=PLAIN,
            )
        ],
        golden=[
            Golden(
                "5 rows of 16",
                {
                    "x": Memory(dtype, [5, 24], fill=Uniform(seed=1, low=-1, high=1)),
                    "y": Output(dtype, [16, 32], fill=Constant(3)),
                },
                reference,
            )
        ],
    )


DESCRIPTOR_TF32 = Function(
    name="abi.descriptor_tf32",
    doc="A descriptor that rounds what is loaded to tf32: the bits that tf32 lacks come out as 0",
    params=[
        tensor("x", "source", dtype="float32", shape="16, 32", contiguous=True),
        tensor(
            "y", "the lowest 13 bits", dtype="int32", shape="16, 32", contiguous=True, output=True
        ),
    ],
    kernels=[
        Kernel(
            source="triton/descriptors.py",
            function="low_bits",
            arguments={"x": Descriptor("fp32", [16, 32], round_to_tf32=True), "y": Arg("*i32")},
            constexprs={"B0": 16, "B1": 32},
            grid=["1", "1", "1"],
            options=PLAIN,
        )
    ],
    golden=[
        Golden(
            "uniform",
            {
                "x": Memory("float32", [16, 32], fill=Uniform(seed=2, low=-1, high=1)),
                "y": Output("int32", [16, 32]),
            },
            lambda args: {"y": np.zeros((16, 32), dtype=np.int64)},
        )
    ],
)


def made_in_kernel(name, doc, options, targets=None):
    return Function(
        name=name,
        doc=doc,
        params=[
            given("x", "float32", "rows, columns", alignment=16),
            out("y", "float32", "rows, columns"),
            integer("rows", "rows", **SIZE),
            integer("columns", "columns, a multiple of 4", **SIZE),
            integer("add", "is added to each element", min=-128, max=127),
            stream(),
        ],
        kernels=[
            Kernel(
                source="triton/descriptors.py",
                function="made_in_kernel",
                arguments={
                    "x": Arg("*fp32", divisible_by_16=True),
                    "y": Arg("*fp32"),
                    "rows": Arg("i32"),
                    "columns": Arg("i32"),
                    "add": Arg("i8"),
                },
                constexprs={"B0": 32, "B1": 32},
                grid=["cdiv(rows, 32)", "cdiv(columns, 32)", "1"],
                options=options,
                targets=targets,
            )
        ],
        golden=[
            Golden(
                "15 programs",
                {
                    "x": Memory("float32", [140, 92], fill=Uniform(seed=3, low=-4, high=4)),
                    "y": Output("float32", [140, 92], atol=1e-6),
                    "rows": 140,
                    "columns": 92,
                    "add": -3,
                },
                lambda args: {"y": args["x"] + args["add"]},
            )
        ],
    )
