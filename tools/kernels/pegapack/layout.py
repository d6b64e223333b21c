# SPDX-License-Identifier: Apache-2.0
"""A kernel's parameters as they are passed, checked against what the cubin says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .cubin import CubinKernel
from .declare import Arg, CudaKernel, Descriptor, Kernel
from .dtypes import SCALARS
from .errors import BuildError
from .worker import Compiled

# What Triton says for `elem_type` counts as the device does; the driver's CUtensorMapDataType
# differs in three places.
_ELEM_TYPE_OF_DEVICE = {8: 10, 9: 8, 10: 9}
_ELEM_TYPE_TF32 = 11
# Triton's launcher always asks for it: CU_TENSOR_MAP_L2_PROMOTION_L2_128B.
_L2_PROMOTION = 2
_TENSOR_MAP_SIZE, _TENSOR_MAP_ALIGNMENT = 128, 64


@dataclass(frozen=True)
class _Piece:
    """One parameter of the compiled kernel."""

    name: str
    type: str
    size: int
    role: str
    value: str | None = None
    encoding: dict[str, Any] | None = None

    @property
    def alignment(self) -> int:
        return _TENSOR_MAP_ALIGNMENT if self.type == "tensor_map" else self.size


def kernel_params(
    kernel: Kernel, compiled: Compiled, cubin: CubinKernel, what: str
) -> list[dict[str, Any]]:
    """The manifest's `params` of a variant: types from the declaration, places from the cubin."""
    pieces = _expected(kernel, compiled, what)
    if len(pieces) != len(cubin.params):
        raise BuildError(
            f"{what}: expected {len(pieces)} parameters ({', '.join(p.name for p in pieces)}), the "
            f"cubin has {len(cubin.params)}; this release of Triton passes something that the "
            "tool does not know"
        )
    return _placed(pieces, cubin, what)


def cuda_kernel_params(
    kernel: CudaKernel, ptx_types: Sequence[str], cubin: CubinKernel, what: str
) -> list[dict[str, Any]]:
    """The same for a CUDA kernel; `ptx_types` are those of its parameters in PTX."""
    pieces = []
    for name, arg in kernel.arguments.items():
        kind, size = ("pointer", 8) if arg.type.startswith("*") else SCALARS[arg.type]
        value = name if arg.value is None else str(arg.value)
        pieces.append(_Piece(name, kind, size, "argument", value))
    if not len(pieces) == len(cubin.params) == len(ptx_types):
        raise BuildError(
            f"{what}: the declaration has {len(pieces)} arguments "
            f"({', '.join(p.name for p in pieces) or 'none'}), the kernel takes {len(ptx_types)} "
            f"parameters ({', '.join(ptx_types) or 'none'} in PTX)"
        )
    for i, (piece, ptx) in enumerate(zip(pieces, ptx_types, strict=True)):
        bits = 8 * piece.size
        if piece.type in ("f32", "f64"):
            known = {piece.type}
        elif piece.type in ("f16", "bf16"):
            known = {piece.type, "b16", "b8[2]"}
        else:
            known = {f"{sign}{bits}" for sign in "usb"}
        if ptx not in known:
            raise BuildError(
                f"{what}: parameter {i} '{piece.name}' is declared as {piece.type}, the kernel's "
                f"is {ptx} in PTX: its type in the declaration is not that of the kernel"
            )
    return _placed(pieces, cubin, what)


def _placed(pieces: Sequence[_Piece], cubin: CubinKernel, what: str) -> list[dict[str, Any]]:
    """Each where the cubin has it, which must be where its type belongs."""
    params = []
    end = 0
    for i, (piece, place) in enumerate(zip(pieces, cubin.params, strict=True)):
        # Aligned as an address of the constant bank, in which parameters begin at param_base.
        natural = (
            -(-(cubin.param_base + end) // piece.alignment) * piece.alignment - cubin.param_base
        )
        if (natural, piece.size) != (place.offset, place.size):
            raise BuildError(
                f"{what}: parameter {i} '{piece.name}' ({piece.type}) was expected at offset "
                f"{natural} with {piece.size} bytes, the cubin has it at {place.offset} with "
                f"{place.size}: its type in the declaration is not that of the kernel"
            )
        end = place.offset + place.size
        entry: dict[str, Any] = {
            "name": piece.name,
            "type": piece.type,
            "offset": place.offset,
            "size": place.size,
            "role": piece.role,
        }
        if piece.value is not None:
            entry["value"] = piece.value
        if piece.encoding is not None:
            entry["encoding"] = piece.encoding
        params.append(entry)
    return params


def _expected(kernel: Kernel, compiled: Compiled, what: str) -> list[_Piece]:
    """In order: the arguments that are not constexpr, then Triton's two hidden parameters."""
    descriptors = [a for a in kernel.arguments.values() if isinstance(a, Descriptor)]
    metas = list(compiled.metadata["tensordesc_meta"] or ())
    if metas and len(metas) != len(descriptors):
        raise BuildError(
            f"{what}: Triton describes {len(metas)} tensor descriptors, the declaration "
            f"has {len(descriptors)}"
        )
    pieces: list[_Piece] = []
    for name in compiled.arg_names:
        arg = kernel.arguments.get(name)
        if arg is None or (isinstance(arg, Arg) and arg.equal_to_1):
            continue  # a constexpr
        value = name if arg.value is None else str(arg.value)
        if isinstance(arg, Descriptor):
            if metas:
                pieces += _encoded(name, value, arg, metas.pop(0), what)
            else:
                pieces += _decomposed(name, value, arg)
        elif arg.type.startswith("*"):
            pieces.append(_Piece(name, "pointer", 8, "argument", value))
        else:
            kind, size = SCALARS[arg.type]
            pieces.append(_Piece(name, kind, size, "argument", value))
    pieces.append(_Piece("global_scratch", "pointer", 8, "global_scratch"))
    pieces.append(_Piece("profile_scratch", "pointer", 8, "profile_scratch"))
    return pieces


def _shape_and_stride(name: str, value: str, rank: int, shape_type: str) -> list[_Piece]:
    size = {"i32": 4, "i64": 8}
    return [
        _Piece(
            f"{name}.shape.{d}", shape_type, size[shape_type], "argument", f"shape({value}, {d})"
        )
        for d in range(rank)
    ] + [
        _Piece(f"{name}.stride.{d}", "i64", 8, "argument", f"stride({value}, {d})")
        for d in range(rank)
    ]


def _decomposed(name: str, value: str, arg: Descriptor) -> list[_Piece]:
    """Before sm_90: the tensor itself, two flags, then shape and strides once more."""
    rank = len(arg.block)
    return [
        _Piece(f"{name}.base", "pointer", 8, "argument", value),
        *_shape_and_stride(f"{name}.descriptor", value, rank, "i64"),
        _Piece(f"{name}.pads_nan", "bool", 1, "argument", "1" if arg.padding == "nan" else "0"),
        _Piece(f"{name}.rounds_to_tf32", "bool", 1, "argument", "1" if arg.round_to_tf32 else "0"),
        *_shape_and_stride(name, value, rank, "i32"),
    ]


def _encoded(
    name: str, value: str, arg: Descriptor, meta: dict[str, Any], what: str
) -> list[_Piece]:
    """Since sm_90: a CUtensorMap, then shape and strides."""
    where = f"{what}: tensor descriptor '{name}'"
    if meta.get("is_im2col"):
        raise BuildError(f"{where} is in im2col mode, which a manifest cannot say")
    known = {"swizzle", "elem_size", "elem_type", "block_size", "fp4_padded", "is_im2col"}
    if set(meta) - known:
        raise BuildError(
            f"{where}: Triton says {sorted(set(meta) - known)}, which this tool does not know"
        )
    block = [int(b) for b in meta["block_size"]]
    if len(block) != len(arg.block):
        raise BuildError(f"{where}: Triton's block {block} has another rank than {list(arg.block)}")
    elem_type = int(meta["elem_type"])
    encoding = {
        "block": block,
        "swizzle": int(meta["swizzle"]),
        "elem_type": _ELEM_TYPE_TF32
        if arg.round_to_tf32
        else _ELEM_TYPE_OF_DEVICE.get(elem_type, elem_type),
        "elem_size": int(meta["elem_size"]),
        "padding": 1 if arg.padding == "nan" else 0,
        "fp4_padded": 1 if meta["fp4_padded"] else 0,
        "interleave": 0,
        "l2_promotion": _L2_PROMOTION,
    }
    return [
        _Piece(name, "tensor_map", _TENSOR_MAP_SIZE, "tensor_descriptor", value, encoding),
        *_shape_and_stride(name, value, len(arg.block), "i32"),
    ]


def triton_signature(kernel: Kernel) -> dict[str, str]:
    """Triton's types of the parameters that are not constexpr."""
    types = {}
    for name, arg in kernel.arguments.items():
        if isinstance(arg, Descriptor):
            types[name] = f"tensordesc<{arg.dtype}[{', '.join(str(b) for b in arg.block)}]>"
        elif not arg.equal_to_1:
            types[name] = arg.type
    return types


def conditions(kernel: Kernel | CudaKernel, alignments: dict[str, int]) -> list[str]:
    """What must hold for a launch: the declaration's `when` and what specialisations rely on.

    `alignments` are those that the function's parameters promise.
    """
    when = list(kernel.when)
    for name, arg in kernel.arguments.items():
        if not isinstance(arg, Arg):
            continue
        value = name if arg.value is None else str(arg.value)
        if arg.equal_to_1:
            when.append(f"{_grouped(value)} == 1")
        if arg.divisible_by_16 and alignments.get(value, 0) < 16:  # powers of two, 0 for no promise
            when.append(f"{_grouped(value)} % 16 == 0")
    return list(dict.fromkeys(when))


def _grouped(expression: str) -> str:
    return expression if re.fullmatch(r"\w+", expression) else f"({expression})"
