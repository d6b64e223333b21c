# SPDX-License-Identifier: Apache-2.0
"""Kernel packs from Triton sources: what a declaration file imports.

A declaration is a Python file that sets PACK to a `Pack`; docs/packs.md is the format that comes
out and kernels/qwen35.py an example.
"""

from .declare import (
    Arg,
    Constant,
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
