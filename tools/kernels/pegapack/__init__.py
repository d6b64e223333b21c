# SPDX-License-Identifier: Apache-2.0
"""Kernel packs from Triton and CUDA C sources: what a declaration file imports.

A declaration is a Python file that sets PACK to a `Pack`; docs/packs.md is the format that comes
out and kernels/qwen35.py an example.
"""

from .declare import (
    Arg,
    Constant,
    CudaKernel,
    Data,
    Descriptor,
    Dtype,
    Function,
    Golden,
    Kernel,
    Memory,
    Options,
    Output,
    Pack,
    Param,
    Pointee,
    Uniform,
    boolean,
    floating,
    integer,
    pointer,
    stream,
    tensor,
)

__all__ = [
    "Arg",
    "Constant",
    "CudaKernel",
    "Data",
    "Descriptor",
    "Dtype",
    "Function",
    "Golden",
    "Kernel",
    "Memory",
    "Options",
    "Output",
    "Pack",
    "Param",
    "Pointee",
    "Uniform",
    "boolean",
    "floating",
    "integer",
    "pointer",
    "stream",
    "tensor",
]
