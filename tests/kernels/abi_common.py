# SPDX-License-Identifier: Apache-2.0
"""What the declarations of the ABI's kernels have in common."""

from pegapack import Options, pointer

SIZE = dict(min=0, max=2**31 - 1)
SINCE_SM90 = ("sm_90", "sm_100", "sm_103", "sm_120")
PLAIN = Options(num_warps=4, enable_fp_fusion=True)


def out(name, dtype, shape, doc="output"):
    return pointer(name, doc, dtype=dtype, shape=shape, nonnull=True, output=True)


def given(name, dtype, shape, doc="input", **rest):
    return pointer(name, doc, dtype=dtype, shape=shape, nonnull=True, **rest)


POINTEE = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
}
