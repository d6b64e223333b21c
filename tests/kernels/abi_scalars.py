# SPDX-License-Identifier: Apache-2.0
"""Scalars of every type, whose places in the parameters have holes between them."""

import numpy as np
from abi_common import POINTEE, out

from pegapack import (
    Arg,
    Function,
    Golden,
    Kernel,
    Options,
    Output,
    boolean,
    floating,
    integer,
    stream,
)

SCALAR_TYPES = {
    "a_i8": ("i8", "int8"),
    "b_fp64": ("fp64", "float64"),
    "c_i1": ("i1", "int8"),
    "d_u16": ("u16", "uint16"),
    "e_u8": ("u8", "uint8"),
    "f_i64": ("i64", "int64"),
    "g_bf16": ("bf16", "bfloat16"),
    "h_i32": ("i32", "int32"),
    "i_fp16": ("fp16", "float16"),
    "j_i16": ("i16", "int16"),
    "k_fp32": ("fp32", "float32"),
    "l_u32": ("u32", "uint32"),
    "m_u64": ("u64", "uint64"),
    "last_u8": ("u8", "uint8"),
}


def scalar_output(name):
    return "out_last" if name == "last_u8" else "out_" + name.split("_")[1]


def scalar_param(name):
    kind = SCALAR_TYPES[name][0]
    if kind == "i1":
        return boolean(name, "a bool")
    return (floating if "fp" in kind or "bf" in kind else integer)(
        name, f"a scalar, passed as {kind}"
    )


def scalars_case(name, values):
    args = dict(values)
    args.update({scalar_output(n): Output(dtype, [1]) for n, (_, dtype) in SCALAR_TYPES.items()})

    def reference(args):
        return {
            scalar_output(n): np.array(
                [args[n] if "float" in dtype else int(args[n])],
                dtype=np.float64 if "float" in dtype else object,
            )
            for n, (_, dtype) in SCALAR_TYPES.items()
        }

    return Golden(name, args, reference)


SCALARS = Function(
    name="abi.scalars",
    doc="Every scalar type among pointers, with holes; the hidden parameters follow a single byte",
    params=[
        p
        for n, (_, dtype) in SCALAR_TYPES.items()
        for p in (scalar_param(n), out(scalar_output(n), dtype, "1"))
    ]
    + [stream()],
    kernels=[
        Kernel(
            source="triton/scalars.py",
            function="scalars",
            arguments={
                **{n: Arg(kind) for n, (kind, _) in SCALAR_TYPES.items()},
                **{
                    scalar_output(n): Arg("*" + POINTEE[dtype])
                    for n, (_, dtype) in SCALAR_TYPES.items()
                },
            },
            grid=["1", "1", "1"],
            options=Options(num_warps=1, enable_fp_fusion=True),
        )
    ],
    golden=[
        scalars_case(
            "middling",
            dict(
                a_i8=-5,
                b_fp64=0.1,
                c_i1=True,
                d_u16=65000,
                e_u8=250,
                f_i64=-5_000_000_000,
                g_bf16=-3.5,
                h_i32=-70000,
                i_fp16=0.1,
                j_i16=-300,
                k_fp32=0.1,
                l_u32=4_000_000_000,
                m_u64=9_000_000_000_000_000,
                last_u8=77,
            ),
        ),
        scalars_case(
            "extreme",
            dict(
                a_i8=127,
                b_fp64=5e-324,
                c_i1=False,
                d_u16=0,
                e_u8=255,
                f_i64=-(2**53) + 1,
                g_bf16=3e38,
                h_i32=2**31 - 1,
                i_fp16=-65504.0,
                j_i16=-32768,
                k_fp32=1e-45,
                l_u32=2**32 - 1,
                m_u64=2**53 - 1,
                last_u8=255,
            ),
        ),
        # Through float32 both would fall on a tie and go down; at once they go up.
        scalars_case(
            "rounded once",
            dict(
                a_i8=-128,
                b_fp64=-0.0,
                c_i1=True,
                d_u16=1,
                e_u8=1,
                f_i64=2**53 - 1,
                g_bf16=1 + 2**-8 + 2**-30,
                h_i32=-(2**31),
                i_fp16=1 + 2**-11 + 2**-30,
                j_i16=32767,
                k_fp32=1 + 2**-24 + 2**-40,
                l_u32=1,
                m_u64=1,
                last_u8=1,
            ),
        ),
    ],
)
