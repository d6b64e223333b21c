# SPDX-License-Identifier: Apache-2.0
"""Shared memory, warps, grids, clusters, cooperative and dependent launches."""

import numpy as np
from abi_common import SINCE_SM90, SIZE, given, out

from pegapack import (
    Arg,
    Constant,
    Descriptor,
    Function,
    Golden,
    Kernel,
    Memory,
    Options,
    Output,
    Uniform,
    integer,
    pointer,
    stream,
    tensor,
)


def product(name, doc, tile, options, targets=None, options_for=None):
    m, n, k = tile
    return Function(
        name=name,
        doc=doc,
        params=[
            given("a", "float16", f"{m}, k", alignment=16),
            given("b", "float16", f"k, {n}", alignment=16),
            pointer(
                "c",
                "a b",
                dtype="float32",
                shape=f"{m}, {n}",
                nonnull=True,
                output=True,
                alignment=16,
            ),
            integer("k", "inner size, a multiple of 64", **SIZE),
            stream(),
        ],
        kernels=[
            Kernel(
                source="triton/shared.py",
                function="product",
                arguments={
                    "a": Arg("*fp16", divisible_by_16=True),
                    "b": Arg("*fp16", divisible_by_16=True),
                    "c": Arg("*fp32", divisible_by_16=True),
                    "k_size": Arg("i32", "k", divisible_by_16=True),
                },
                constexprs={"M": m, "N": n, "K": k},
                grid=["1", "1", "1"],
                options=options,
                targets=targets,
                options_for=options_for or {},
            )
        ],
        golden=[
            Golden(
                "k 512",
                {
                    "a": Memory("float16", [m, 512], fill=Uniform(seed=4, low=-1, high=1)),
                    "b": Memory("float16", [512, n], fill=Uniform(seed=5, low=-1, high=1)),
                    "c": Output("float32", [m, n], atol=2e-3),
                    "k": 512,
                },
                lambda args: {"c": args["a"] @ args["b"]},
            )
        ],
    )


WARPS = Function(
    name="abi.warp_specialised",
    doc="A product by warps with work of their own; the launch has more warps than were asked for",
    params=[
        tensor("a", "left", dtype="float16", shape="64, K", contiguous=True),
        tensor("b", "right, transposed", dtype="float16", shape="128, K", contiguous=True),
        tensor("c", "a b^T", dtype="float32", shape="64, 128", contiguous=True, output=True),
    ],
    kernels=[
        Kernel(
            source="triton/warps.py",
            function="warp_specialised",
            arguments={
                "a": Descriptor("fp16", [64, 64]),
                "b": Descriptor("fp16", [128, 64]),
                "c": Arg("*fp32"),
                "k_size": Arg("i32", "K"),
            },
            constexprs={"M": 64, "N": 128, "K": 64},
            grid=["1", "1", "1"],
            targets=("sm_90", "sm_100", "sm_103"),
            options=Options(num_warps=4, num_stages=3, enable_fp_fusion=True),
        )
    ],
    golden=[
        Golden(
            "k 512",
            {
                "a": Memory("float16", [64, 512], fill=Uniform(seed=10, low=-1, high=1)),
                "b": Memory("float16", [128, 512], fill=Uniform(seed=11, low=-1, high=1)),
                "c": Output("float32", [64, 128], atol=2e-3),
            },
            lambda args: {"c": args["a"] @ args["b"].T},
        )
    ],
)


# --- Grids and launches ---


def program_ids(args):
    nz, ny, nx = args["nz"], args["ny"], args["nx"]
    z, y, x = np.meshgrid(np.arange(nz), np.arange(ny), np.arange(nx), indexing="ij")
    ids = np.stack(
        [x, y, z, np.full_like(x, nx), np.full_like(x, ny), np.full_like(x, nz)], axis=-1
    )
    return {"ids": ids}


def grid_case(name, nx, ny, nz):
    return Golden(
        name, {"ids": Output("int32", [nz, ny, nx, 6]), "nx": nx, "ny": ny, "nz": nz}, program_ids
    )


GRID = Function(
    name="abi.grid",
    doc="Each program of a grid in three dimensions writes its ids and the grid's sizes",
    params=[
        out("ids", "int32", "nz, ny, nx, 6"),
        integer("nx", "programs along x", **SIZE),
        integer("ny", "programs along y", **SIZE),
        integer("nz", "programs along z", **SIZE),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/launch.py",
            function="program_ids",
            arguments={"out": Arg("*i32", "ids"), "nx": Arg("i32"), "ny": Arg("i32")},
            grid=["nx", "ny", "nz"],
            options=Options(num_warps=1, enable_fp_fusion=True),
        )
    ],
    golden=[
        grid_case("3 by 5 by 7", 3, 5, 7),
        grid_case("long in y", 1, 65535, 1),
        grid_case("one", 1, 1, 1),
    ],
)


def last_case(programs):
    return Golden(
        f"{programs} programs",
        {"out": Output("int64", [64]), "programs": programs},
        lambda args: {"out": np.arange(programs - 64, programs)},
    )


LARGE_GRID = Function(
    name="abi.large_grid",
    doc="The last 64 programs of a long grid write their ids",
    params=[
        out("out", "int64", "64"),
        integer("programs", "how many, 64 or more", min=64, max=2**53 - 1),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/launch.py",
            function="last_programs",
            arguments={"out": Arg("*i64"), "programs": Arg("i64")},
            constexprs={"KEPT": 64},
            grid=["programs", "1", "1"],
            options=Options(num_warps=1, enable_fp_fusion=True),
        )
    ],
    golden=[last_case(64), last_case(70000), last_case(20_000_000)],
)


def cluster_sums(args):
    x = args["x"]
    programs = x.shape[0]
    return {
        "sums": np.concatenate([x.sum(axis=2), x.sum(axis=1)], axis=1),
        "ids": np.stack([np.arange(programs), np.full(programs, programs)], axis=1),
    }


CLUSTER = Function(
    name="abi.cluster",
    doc="Programs that are clusters of two CTAs add up what both hold",
    params=[
        given("x", "float32", "programs, 64, 128", alignment=16),
        out("sums", "float32", "programs, 192"),
        out("ids", "int32", "programs, 2"),
        integer("programs", "how many", **SIZE),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/launch.py",
            function="cluster_sum",
            arguments={
                "x": Arg("*fp32", divisible_by_16=True),
                "out": Arg("*fp32", "sums"),
                "ids": Arg("*i32"),
            },
            constexprs={"ROWS": 64, "COLUMNS": 128},
            grid=["programs", "1", "1"],
            targets=SINCE_SM90,
            options=Options(num_warps=4, num_ctas=2, enable_fp_fusion=True),
        )
    ],
    golden=[
        Golden(
            "5 programs",
            {
                "x": Memory("float32", [5, 64, 128], fill=Uniform(seed=6, low=-1, high=1)),
                "sums": Output("float32", [5, 192], atol=1e-4),
                "ids": Output("int32", [5, 2]),
                "programs": 5,
            },
            cluster_sums,
        )
    ],
)

DEPENDENT = Function(
    name="abi.dependent",
    doc="y = 3 x, launched so that it may begin before the kernel in front of it has ended",
    params=[
        given("x", "float32", "n"),
        out("y", "float32", "n"),
        integer("n", "elements", **SIZE),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/launch.py",
            function="dependent",
            arguments={"x": Arg("*fp32"), "y": Arg("*fp32"), "n": Arg("i32")},
            constexprs={"BLOCK": 256},
            grid=["cdiv(n, 256)", "1", "1"],
            targets=SINCE_SM90,
            options=Options(num_warps=4, enable_fp_fusion=True, launch_pdl=True),
        )
    ],
    golden=[
        Golden(
            "1000 elements",
            {
                "x": Memory("float32", [1000], fill=Uniform(seed=8, low=-1, high=1)),
                "y": Output("float32", [1000], atol=1e-6),
                "n": 1000,
            },
            lambda args: {"y": args["x"] * 3},
        )
    ],
)

COOPERATIVE = Function(
    name="abi.cooperative",
    doc="Every program waits for all the others, then adds up what they wrote",
    params=[
        pointer(
            "counter",
            "0 before, the number of programs after",
            dtype="int32",
            shape="1",
            nonnull=True,
            output=True,
        ),
        out("partial", "int32", "programs"),
        out("y", "int32", "programs"),
        integer("programs", "how many", **SIZE),
        stream(),
    ],
    kernels=[
        Kernel(
            source="triton/launch.py",
            function="wait_for_all",
            arguments={
                "counter": Arg("*i32"),
                "partial": Arg("*i32"),
                "y": Arg("*i32"),
                "programs": Arg("i32"),
            },
            grid=["programs", "1", "1"],
            options=Options(num_warps=1, enable_fp_fusion=True, launch_cooperative_grid=True),
        )
    ],
    golden=[
        Golden(
            "32 programs",
            {
                "counter": Output("int32", [1], fill=Constant(0)),
                "partial": Output("int32", [32]),
                "y": Output("int32", [32]),
                "programs": 32,
            },
            lambda args: {
                "counter": np.array([32]),
                "partial": np.arange(1, 33),
                "y": np.full(32, 32 * 33 // 2),
            },
        )
    ],
)
