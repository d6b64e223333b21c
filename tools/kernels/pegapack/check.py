# SPDX-License-Identifier: Apache-2.0
"""Checks of a declaration, before anything is compiled: what can be wrong without a compiler."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterable, Sequence

from .declare import (
    Arg,
    CudaKernel,
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
)
from .dtypes import POINTEES, SCALARS, storage
from .errors import BuildError

# The targets that are compiled for; what Triton then makes of each is in the cubin.
TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_103", "sm_120")

# What a parameter of each type may say besides name, type, doc, domain and optional.
_PARAM_FIELDS = {
    "bool": (),
    "int": ("min", "max"),
    "float": (),
    "pointer": ("nonnull", "output", "alignment", "pointee"),
    "stream": ("nonnull",),
    "Tensor": ("dtype", "shape", "contiguous", "output", "alignment"),
}
_COMMON_FIELDS = ("name", "type", "doc", "domain", "optional")
_SHAPE = re.compile(r" *((\w+) *(, *(\w+) *)*)?", re.ASCII)
_CALLS = {"cdiv": 2, "min": 2, "max": 2, "shape": 2, "stride": 2}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_EXPRESSION = 512


def compute_capability(target: str) -> int:
    return int(target.removeprefix("sm_"))


def check_pack(pack: Pack) -> None:
    """Raises BuildError for the first thing that is wrong."""
    if not isinstance(pack, Pack):
        raise BuildError(f"PACK is a {type(pack).__name__}, expected a pegapack.Pack")
    where = f"pack '{pack.name}'"
    if not pack.name:
        raise BuildError("the pack has no name")
    _check_targets(pack.targets, where)
    _unique((f.name for f in pack.functions), f"{where}: functions")
    if not pack.functions:
        raise BuildError(f"{where} has no functions")
    for function in pack.functions:
        _check_function(function)


def _check_targets(targets: Iterable[str], where: str) -> None:
    for target in targets:
        if target not in TARGETS:
            raise BuildError(
                f"{where}: unknown target '{target}'; expected one of: {', '.join(TARGETS)}"
            )


def _unique(names: Iterable[str], where: str) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise BuildError(f"{where}: '{name}' is there twice")
        seen.add(name)


def _check_function(function: Function) -> None:
    where = f"function '{function.name}'"
    if not re.fullmatch(r"[A-Za-z_][\w.]*", function.name):
        raise BuildError(f"{where}: a name is letters, digits, '_' and '.'")
    _unique((p.name for p in function.params), f"{where}: params")
    for param in function.params:
        _check_param(param, f"{where}, parameter '{param.name}'")
        _check_pointee(param, function, f"{where}, parameter '{param.name}'")
    if sum(p.type == "stream" for p in function.params) > 1:
        raise BuildError(f"{where} has more than one stream")
    if not function.kernels:
        raise BuildError(f"{where} has no kernels")
    for i, kernel in enumerate(function.kernels):
        _check_kernel(kernel, function, f"{where}, kernel {i} ({kernel.source}: {kernel.function})")
    _unique((g.name for g in function.golden), f"{where}: golden cases")
    for golden in function.golden:
        _check_golden(golden, function, f"{where}, golden case '{golden.name}'")


def _check_param(param: Param, where: str) -> None:
    if not _NAME.fullmatch(param.name):
        raise BuildError(f"{where}: the name is no identifier")
    if param.type not in _PARAM_FIELDS:
        raise BuildError(
            f"{where}: type '{param.type}'; expected one of: {', '.join(_PARAM_FIELDS)}"
        )
    for field in dataclasses.fields(Param):
        allowed = (*_COMMON_FIELDS, *_PARAM_FIELDS[param.type])
        if field.name not in allowed and getattr(param, field.name) != field.default:
            raise BuildError(
                f"{where}: a parameter of type {param.type} has no '{field.name}'; it has: "
                f"{', '.join(allowed)}"
            )
    if (param.min is None) != (param.max is None):
        raise BuildError(f"{where}: min and max go together")
    if param.min is not None and param.max is not None and param.min > param.max:
        raise BuildError(f"{where}: min {param.min} is above max {param.max}")
    if param.alignment < 0 or param.alignment & (param.alignment - 1):
        raise BuildError(f"{where}: alignment {param.alignment} is no power of two")
    if param.type == "Tensor" and (param.dtype is None or param.shape is None):
        raise BuildError(f"{where}: a Tensor needs dtype and shape")
    for shape in (param.shape, param.pointee.shape if param.pointee is not None else None):
        if shape is not None and not _SHAPE.fullmatch(shape):
            raise BuildError(
                f"{where}: shape '{shape}'; expected names and numbers with commas between: "
                "'T, HV, 64'"
            )


def _check_pointee(param: Param, function: Function, where: str) -> None:
    if param.pointee is None:
        return
    storage(param.pointee.dtype, f"{where}, pointee")
    sizes = {p.name for p in function.params if p.type == "int"}
    for name in _NAME.findall(param.pointee.shape):
        if name not in sizes:
            raise BuildError(
                f"{where}: shape '{param.pointee.shape}' names '{name}', which is no int parameter"
            )


def check_expression(text: str, function: Function, where: str) -> None:
    """Whether `text` is an expression of docs/packs.md over the function's parameters."""
    where = f"{where}: expression '{text}'"
    if len(text) > _MAX_EXPRESSION:
        raise BuildError(f"{where} is longer than {_MAX_EXPRESSION} characters")
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise BuildError(f"{where} cannot be read: {error.msg}") from error
    params = {p.name: p for p in function.params}
    symbols = {
        s for p in function.params if p.type == "Tensor" and p.shape for s in _NAME.findall(p.shape)
    }
    _check_node(tree, params, symbols, where)


def _check_node(node: ast.expr, params: dict[str, Param], symbols: set[str], where: str) -> None:
    def rest(*nodes: ast.expr) -> None:
        for other in nodes:
            _check_node(other, params, symbols, where)

    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            pass
        case ast.Name(id=name):
            param = params.get(name)
            if param is None and name not in symbols:
                raise BuildError(
                    f"{where}: no parameter '{name}'; there are: "
                    f"{', '.join(sorted({*params, *symbols}))}"
                )
            if param is not None and param.type in ("stream", "float"):
                raise BuildError(
                    f"{where}: '{name}' is a {param.type}, which expressions do not take"
                )
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Mod(), right=right
        ):
            rest(left, right)
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            rest(operand)
        case ast.BoolOp(values=values):
            rest(*values)
        case ast.Compare(
            left=left,
            ops=[ast.Eq() | ast.NotEq() | ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()],
            comparators=[right],
        ):
            rest(left, right)
        case ast.Call(
            func=ast.Name(id=("shape" | "stride") as call),
            args=[ast.Name(id=name), ast.Constant()],
            keywords=[],
        ):
            if name not in params or params[name].type != "Tensor":
                raise BuildError(f"{where}: {call}() takes a Tensor parameter, got '{name}'")
        case ast.Call(func=ast.Name(id=call), args=args, keywords=[]) if _CALLS.get(call) == len(
            args
        ):
            rest(*args)
        case _:
            raise BuildError(
                f"{where} has '{ast.unparse(node)}', which expressions do not have: "
                "integers, names, + - * / %, comparisons, and, or, not, cdiv, min, max, shape, "
                "stride"
            )


def _check_kernel(kernel: Kernel | CudaKernel, function: Function, where: str) -> None:
    params = {p.name: p for p in function.params}
    if kernel.targets is not None:
        _check_targets(kernel.targets, where)
    if isinstance(kernel, CudaKernel):
        _check_cuda_kernel(kernel, where)
    for name, arg in kernel.arguments.items():
        _check_argument(name, arg, function, params, f"{where}, argument '{name}'")
    if len(kernel.grid) != 3:
        raise BuildError(f"{where}: a grid has 3 sizes, got {len(kernel.grid)}")
    for text in (*kernel.grid, *kernel.when):
        check_expression(str(text), function, where)
    if isinstance(kernel, CudaKernel):
        return
    for target in kernel.options_for:
        _check_targets([target], f"{where}, options_for")
        effective_options(kernel, target, where)
    for target in kernel.constexprs_for:
        _check_targets([target], f"{where}, constexprs_for")
    for source in (kernel.constexprs, *kernel.constexprs_for.values()):
        for name, value in source.items():
            if name in kernel.arguments:
                raise BuildError(f"{where}: '{name}' is both an argument and a constexpr")
            if not (value is None or isinstance(value, (bool, int, float, str, Dtype))):
                raise BuildError(
                    f"{where}: constexpr '{name}' is a {type(value).__name__}; expected an int, "
                    "float, bool, str, None or Dtype"
                )


def _is_size(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check_cuda_kernel(kernel: CudaKernel, where: str) -> None:
    if not _NAME.fullmatch(kernel.function):
        raise BuildError(f"{where}: '{kernel.function}' is no name of a function in C")
    for name, value, known in (
        ("compiler", kernel.compiler, ("nvcc", "nvrtc")),
        ("format", kernel.format, ("cubin", "fatbin")),
    ):
        if value not in known:
            raise BuildError(f"{where}: {name} '{value}'; expected one of: {', '.join(known)}")
    block = list(kernel.block)
    if (
        len(block) != 3
        or not all(_is_size(size, 1, 1024) for size in block)
        or block[0] * block[1] * block[2] > 1024
        or block[2] > 64
    ):
        raise BuildError(
            f"{where}: block {block}; expected 3 sizes, 1024 threads at most, 64 deep at most"
        )
    cluster = list(kernel.cluster)
    if len(cluster) != 3 or not all(_is_size(size, 1, 16) for size in cluster):
        raise BuildError(f"{where}: cluster {cluster}; expected 3 sizes from 1 to 16")
    if not _is_size(kernel.shared, 0, 2**18):
        raise BuildError(f"{where}: shared {kernel.shared}; expected bytes, 256 KiB at most")
    if kernel.maxnreg is not None and not _is_size(kernel.maxnreg, 16, 255):
        raise BuildError(f"{where}: maxnreg {kernel.maxnreg}; expected 16 to 255")
    for name, value in kernel.defines.items():
        if not _NAME.fullmatch(name):
            raise BuildError(f"{where}: define '{name}' is no identifier")
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise BuildError(
                f"{where}: define '{name}' is a {type(value).__name__}; expected an int or a str"
            )
    for name, arg in kernel.arguments.items():
        if isinstance(arg, Descriptor):
            raise BuildError(f"{where}, argument '{name}': a CUDA kernel takes no Descriptor")
        if isinstance(arg, Arg) and (arg.divisible_by_16 or arg.equal_to_1):
            raise BuildError(
                f"{where}, argument '{name}': nvcc specialises nothing; say it in `when`, or by "
                "the alignment of the function's parameter"
            )


def _check_argument(
    name: str, arg: object, function: Function, params: dict[str, Param], where: str
) -> None:
    if isinstance(arg, Descriptor):
        value = arg.value or name
        if value not in params or params[value].type != "Tensor":
            raise BuildError(
                f"{where}: a descriptor is made from a Tensor parameter; '{value}' is none"
            )
        if arg.dtype not in POINTEES:
            raise BuildError(
                f"{where}: unknown Triton type '{arg.dtype}'; expected one of: "
                f"{', '.join(sorted(POINTEES))}"
            )
        if not 1 <= len(arg.block) <= 5:
            raise BuildError(f"{where}: a descriptor has 1 to 5 dimensions, got {len(arg.block)}")
        if arg.padding not in ("zero", "nan"):
            raise BuildError(f"{where}: padding '{arg.padding}'; expected 'zero' or 'nan'")
        return
    if not isinstance(arg, Arg):
        raise BuildError(f"{where} is a {type(arg).__name__}, expected an Arg or a Descriptor")
    value = name if arg.value is None else str(arg.value)
    if arg.type.startswith("*"):
        if arg.type.removeprefix("*").removeprefix("k") not in POINTEES:
            raise BuildError(f"{where}: unknown Triton type '{arg.type}'")
    elif arg.type not in SCALARS:
        raise BuildError(
            f"{where}: unknown Triton type '{arg.type}'; expected a pointer ('*fp32'), or one "
            f"of: {', '.join(sorted(SCALARS))}"
        )
    if arg.type in ("fp16", "bf16", "fp32", "fp64"):
        if value not in params or params[value].type not in ("float", "int"):
            raise BuildError(
                f"{where}: a {arg.type} takes the name of one float or int parameter, got '{value}'"
            )
        if arg.divisible_by_16 or arg.equal_to_1:
            raise BuildError(f"{where}: Triton specialises integers and pointers, not {arg.type}")
    else:
        check_expression(value, function, where)


def _check_golden(golden: Golden, function: Function, where: str) -> None:
    params = {p.name: p for p in function.params if p.type != "stream"}
    if set(golden.args) != set(params):
        raise BuildError(f"{where} has arguments {sorted(golden.args)}, expected {sorted(params)}")
    symbols: dict[str, int] = {}
    for name, arg in golden.args.items():
        memory = isinstance(arg, (Memory, Output))
        if memory != (params[name].type in ("pointer", "Tensor")):
            raise BuildError(
                f"{where}: '{name}' is a {params[name].type}, got {type(arg).__name__}"
            )
        if isinstance(arg, Output) and not params[name].output:
            raise BuildError(f"{where}: '{name}' is compared, but not declared with output=True")
        pointee = params[name].pointee
        shape = params[name].shape if pointee is None else pointee.shape
        if isinstance(arg, (Memory, Output)) and shape is not None:
            _check_shape(shape, arg.shape, golden, symbols, f"{where}: '{name}'")


def _check_shape(
    declared: str, got: Sequence[int], golden: Golden, symbols: dict[str, int], where: str
) -> None:
    """Numbers, int arguments, and names that the first tensor that has them decides."""
    names = [n.strip() for n in declared.split(",")] if declared.strip() else []
    if len(names) != len(got):
        raise BuildError(
            f"{where} has shape {list(got)}, expected {len(names)} dimensions: {declared}"
        )
    for name, size in zip(names, got, strict=True):
        known = (
            int(name) if name.isdigit() else golden.args.get(name, symbols.setdefault(name, size))
        )
        if known != size:
            raise BuildError(
                f"{where} has shape {list(got)}, expected {known} for '{name}' in '{declared}'"
            )


def effective_options(kernel: Kernel, target: str, where: str) -> Options:
    """The options of a kernel for one target."""
    change = kernel.options_for.get(target, {})
    known = {f.name for f in dataclasses.fields(Options)}
    if set(change) - known:
        raise BuildError(
            f"{where}, options_for {target}: unknown {sorted(set(change) - known)}; expected "
            f"some of: {', '.join(sorted(known))}"
        )
    return dataclasses.replace(kernel.options, **change)
