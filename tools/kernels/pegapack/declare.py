# SPDX-License-Identifier: Apache-2.0
"""What a declaration file is written in: plain frozen data, checked by check.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# --- A function's public signature (pega_param) ---


@dataclass(frozen=True)
class Pointee:
    """What a pointer points at; the manifest's documentation."""

    dtype: str
    shape: str
    layout: str = "row-major"


@dataclass(frozen=True)
class Param:
    """One parameter of a function. Made by pointer(), tensor(), integer() and the like."""

    name: str
    type: str
    doc: str
    dtype: str | None = None
    shape: str | None = None
    contiguous: bool = False
    min: int | None = None
    max: int | None = None
    domain: str | None = None
    optional: bool = False
    nonnull: bool = False
    output: bool = False
    alignment: int = 0
    pointee: Pointee | None = None


def pointer(
    name: str,
    doc: str,
    *,
    dtype: str | None = None,
    shape: str | None = None,
    layout: str = "row-major",
    **rest: Any,
) -> Param:
    """Memory by address; `dtype` and `shape` say what is there."""
    if (dtype is None) != (shape is None):
        raise TypeError(f"pointer '{name}': dtype and shape go together")
    pointee = Pointee(dtype, shape, layout) if dtype is not None and shape is not None else None
    return Param(name, "pointer", doc, pointee=pointee, **rest)


def tensor(name: str, doc: str, *, dtype: str, shape: str, **rest: Any) -> Param:
    return Param(name, "Tensor", doc, dtype=dtype, shape=shape, **rest)


def integer(name: str, doc: str, **rest: Any) -> Param:
    return Param(name, "int", doc, **rest)


def floating(name: str, doc: str, **rest: Any) -> Param:
    return Param(name, "float", doc, **rest)


def boolean(name: str, doc: str, **rest: Any) -> Param:
    return Param(name, "bool", doc, **rest)


def stream(name: str = "stream", doc: str = "CUstream; 0 is the default stream") -> Param:
    return Param(name, "stream", doc)


# --- A kernel's parameters, and how it is compiled ---


@dataclass(frozen=True)
class Arg:
    """A parameter of the kernel: its Triton type, and an expression of the function's parameters.

    `divisible_by_16` and `equal_to_1` are Triton's specialisations: the compiler may rely on
    them, and the variant is launched only where they hold (the condition is added to its `when`,
    unless the alignment of the parameter's declaration already promises it).
    """

    type: str
    value: str | int | None = None  # None: the parameter of the same name
    divisible_by_16: bool = False
    equal_to_1: bool = False


@dataclass(frozen=True)
class Descriptor:
    """A host tensor descriptor (triton.tools.tensor_descriptor) made from a Tensor parameter."""

    dtype: str  # as Triton says it: "fp32", "bf16"
    block: Sequence[int]
    value: str | None = None  # None: the parameter of the same name
    padding: str = "zero"  # what is read out of bounds: "zero" or "nan"
    round_to_tf32: bool = False


@dataclass(frozen=True)
class Dtype:
    """A constexpr that is a Triton dtype: Dtype("bf16") is tl.bfloat16."""

    name: str


@dataclass(frozen=True)
class Options:
    """Options of the compiler. Those whose defaults move between releases have to be given."""

    num_warps: int
    enable_fp_fusion: bool
    num_stages: int = 3
    num_ctas: int = 1
    maxnreg: int | None = None
    sched4reg: bool = False  # schedule for few registers
    launch_pdl: bool = False
    launch_cooperative_grid: bool = False
    default_dot_input_precision: str = "tf32"
    ptx_options: str | None = None  # for ptxas
    debug: bool = False  # compiles tl.device_assert() in


@dataclass(frozen=True)
class Kernel:
    """A kernel, compiled once for each of its targets: one variant of the function for each.

    `function` is Triton's, @triton.jit or @gluon.jit. `grid` counts programs, as tl.program_id()
    does. `options_for` and `constexprs_for` change single fields for single targets:
    {"sm_80": {"num_warps": 4}}.
    """

    source: str  # beside the declaration
    function: str
    arguments: Mapping[str, Arg | Descriptor]
    grid: Sequence[str]
    options: Options
    constexprs: Mapping[str, Any] = field(default_factory=dict)
    options_for: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    constexprs_for: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    targets: Sequence[str] | None = None  # None: all of the pack's
    when: Sequence[str] = ()


@dataclass(frozen=True)
class CudaKernel:
    """A kernel of a CUDA C source, compiled by nvcc or NVRTC: a variant of the function for each target.

    The kernel is declared `extern "C" __global__`. `arguments` are in the order of its parameters,
    which are not checked by name; their types are Triton's words ("*fp32", "i32"), which are
    checked against the code. `grid` counts blocks. A source is compiled once for all kernels that
    ask for it with the same defines and options. With `format="fatbin"` the code for all targets is
    one blob.
    """

    source: str  # beside the declaration
    function: str
    arguments: Mapping[str, Arg]
    grid: Sequence[str]
    block: Sequence[int]
    shared: int = 0  # dynamic shared memory, bytes
    cluster: Sequence[int] = (1, 1, 1)
    defines: Mapping[str, int | str] = field(default_factory=dict)
    maxnreg: int | None = None
    fast_math: bool = False
    launch_pdl: bool = False  # on targets that have it: sm_90 and later
    launch_cooperative_grid: bool = False
    architecture_specific: bool = True  # sm_90a for sm_90 and so on, as Triton compiles
    compiler: str = "nvcc"  # or "nvrtc"
    format: str = "cubin"  # or "fatbin"
    targets: Sequence[str] | None = None  # None: all of the pack's
    when: Sequence[str] = ()


# --- Golden cases ---


@dataclass(frozen=True)
class Uniform:
    """Numbers in [low, high) that any language can repeat (docs/packs.md)."""

    seed: int
    low: float
    high: float


@dataclass(frozen=True)
class Constant:
    value: float


@dataclass(frozen=True)
class Data:
    """Memory that begins as this array, rounded to the dtype; kept in the pack as a blob."""

    array: Any


Fill = Uniform | Constant | Data | None


@dataclass(frozen=True)
class Memory:
    """A tensor, or what a pointer points at. Without a fill it begins as bytes of 0xFF."""

    dtype: str
    shape: Sequence[int]
    fill: Fill = None


@dataclass(frozen=True)
class Output:
    """Memory that is compared with what the golden case's reference returns."""

    dtype: str
    shape: Sequence[int]
    atol: float = 0.0
    rtol: float = 0.0
    fill: Fill = None


@dataclass(frozen=True)
class Golden:
    """Arguments by name (all but streams), and a reference.

    `reference` takes the arguments as a dict (arrays as the kernel sees them: rounded to their
    dtype, floats then widened to float64) and returns a dict of arrays for the outputs, in float64
    where they are floats. Memory without a fill arrives as NaN or all bits set.
    """

    name: str
    args: Mapping[str, Memory | Output | int | float | bool]
    reference: Callable[[dict[str, Any]], Mapping[str, Any]]


# --- Functions and packs ---


@dataclass(frozen=True)
class Function:
    name: str
    doc: str
    params: Sequence[Param]
    kernels: Sequence[Kernel | CudaKernel]  # in order of preference
    golden: Sequence[Golden] = ()
    same_device: bool = False


@dataclass(frozen=True)
class Pack:
    name: str
    doc: str
    functions: Sequence[Function]
    targets: Sequence[str] = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_103", "sm_120")
