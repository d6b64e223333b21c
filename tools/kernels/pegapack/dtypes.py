# SPDX-License-Identifier: Apache-2.0
"""The dtypes of the manifest and of Triton, and how numbers are rounded to them."""

from __future__ import annotations

import numpy as np

from .errors import BuildError

# Names in the manifest, with the numpy type that holds the bytes (bfloat16: its bits).
_STORAGE: dict[str, np.dtype] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "int8": np.dtype("i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "bool": np.dtype("u1"),
}

# Triton's scalar types: type in the manifest, bytes.
SCALARS = {
    "i1": ("bool", 1),
    "u1": ("bool", 1),
    "i8": ("i8", 1),
    "i16": ("i16", 2),
    "i32": ("i32", 4),
    "i64": ("i64", 8),
    "u8": ("u8", 1),
    "u16": ("u16", 2),
    "u32": ("u32", 4),
    "u64": ("u64", 8),
    "fp16": ("f16", 2),
    "bf16": ("bf16", 2),
    "fp32": ("f32", 4),
    "fp64": ("f64", 8),
}

# What a pointer may point at besides.
POINTEES = frozenset(SCALARS) | {"fp8e4nv", "fp8e4b8", "fp8e4b15", "fp8e5", "fp8e5b16"}


def storage(dtype: str, where: str) -> np.dtype:
    """The numpy dtype of the bytes of `dtype`."""
    if dtype not in _STORAGE:
        raise BuildError(
            f"{where}: unknown dtype '{dtype}'; expected one of: {', '.join(sorted(_STORAGE))}"
        )
    return _STORAGE[dtype]


def is_float(dtype: str) -> bool:
    return dtype in ("float64", "float32", "float16", "bfloat16")


def to_storage(values: np.ndarray, dtype: str, where: str) -> np.ndarray:
    """Rounds numbers to `dtype`: to nearest even for floats, down for integers."""
    kind = storage(dtype, where)
    if dtype == "bfloat16":
        return _bfloat16_bits(np.asarray(values, np.float64))
    if is_float(dtype):
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64).astype(kind)
    if dtype == "bool":
        return (np.asarray(values) != 0).astype(kind)
    values = np.asarray(values)
    if values.dtype.kind == "f":
        values = np.floor(values)
        if not np.isfinite(values).all():
            raise BuildError(f"{where}: NaN or infinity cannot be {dtype}")
        # Exact also where float64 holds more than int64 does.
        as_int = [int(x) for x in values.ravel()]
    else:
        as_int = [int(x) for x in values.ravel()]
    info = np.iinfo(kind)
    for x in as_int:
        if not info.min <= x <= info.max:
            raise BuildError(f"{where}: {x} does not fit {dtype}")
    return np.array(as_int, dtype=kind).reshape(values.shape)


def from_storage(stored: np.ndarray, dtype: str) -> np.ndarray:
    """What a reference computes with: float64 for floats, the stored integers else."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if is_float(dtype):
        return stored.astype(np.float64)
    return stored


def _bfloat16_bits(x: np.ndarray) -> np.ndarray:
    """Nearest even from float64 at once: float32 is rounded to odd, so nothing rounds twice."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = x.astype(np.float32)
    bits = single.view(np.uint32).copy()
    wide = single.astype(np.float64)
    finite = np.isfinite(x)
    # Towards zero first, then the lowest bit says that something was lost.
    bits[finite & (np.abs(wide) > np.abs(x))] -= 1
    inexact = finite & (bits.view(np.float32).astype(np.float64) != x)
    bits[inexact] |= 1
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    rounded[np.isnan(x)] = 0x7FC0
    return rounded.astype(np.dtype("<u2"))
