# SPDX-License-Identifier: Apache-2.0
"""CUDA C by each compiler and in each form of a blob."""

import numpy as np
from abi_common import SIZE, given, out

from pegapack import (
    Arg,
    CudaKernel,
    Function,
    Golden,
    Memory,
    Output,
    Uniform,
    floating,
    integer,
    stream,
)


def line_case(n, a, seed):
    def reference(args):
        x = np.asarray(args["x"], np.float64)
        return {"y": np.float64(np.float32(a)) * x + np.arange(n)}

    return Golden(
        f"n={n}",
        dict(
            x=Memory("float32", [n], Uniform(seed, -1, 1)),
            y=Output("float32", [n], atol=1e-6, rtol=1e-6),
            n=n,
            a=a,
        ),
        reference,
    )


def line(name, doc, **options):
    return Function(
        name=name,
        doc=doc,
        params=[
            given("x", "float32", "n"),
            out("y", "float32", "n"),
            integer("n", "elements", **SIZE),
            floating("a", "factor"),
            stream(),
        ],
        kernels=[
            CudaKernel(
                source="cuda/line.cu",
                function="line_kernel",
                arguments=dict(x=Arg("*fp32"), y=Arg("*fp32"), n=Arg("i32"), a=Arg("fp32")),
                grid=["cdiv(n, 128)", "1", "1"],
                block=[128, 1, 1],
                shared=512,
                **options,
            )
        ],
        golden=[line_case(1000, 2.5, 11), line_case(1, -0.5, 12)],
    )


CUDA = [
    line("abi.cuda_nvcc", "By nvcc, a cubin for each target"),
    line("abi.cuda_nvrtc", "By NVRTC, a cubin for each target", compiler="nvrtc"),
    line("abi.cuda_fatbin", "By nvcc, one fatbin for all targets", format="fatbin"),
    line(
        "abi.cuda_nvrtc_fatbin",
        "By NVRTC, one fatbin for all targets",
        compiler="nvrtc",
        format="fatbin",
    ),
]
