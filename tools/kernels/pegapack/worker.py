# SPDX-License-Identifier: Apache-2.0
"""A process that compiles kernels: takes jobs on standard input, answers on standard output.

It is started by compile.py in an environment of its own making, so that nothing of the user's
reaches the compiler. What Triton and ptxas print is kept, and told where a job fails.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import signal
import struct
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from .declare import Dtype


@dataclass(frozen=True)
class Job:
    """One compilation. Everything is plain data: it goes to another process."""

    what: str  # for people
    source: str
    function: str
    signature: dict[str, str]  # Triton types of the parameters that are not constexpr
    constexprs: dict[str, Any]  # declare.Dtype among them
    divisible_by_16: tuple[str, ...]
    compute_capability: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of a kernel."""

    entry: str
    arg_names: list[str]  # of the kernel's function, constexprs among them
    cubin: bytes
    ptx_target: str  # "sm_90a"
    metadata: dict[str, Any]
    triton_version: str
    assembler: str
    imports: list[str] = field(default_factory=list)  # files that the source imported


@dataclass(frozen=True)
class Failed:
    message: str


# Of what Triton returns, what decides a launch. Whatever else it says changes nothing there.
METADATA = (
    "num_warps",
    "num_ctas",
    "shared",
    "tmem_size",
    "global_scratch_size",
    "global_scratch_align",
    "profile_scratch_size",
    "profile_scratch_align",
    "launch_pdl",
    "launch_cooperative_grid",
    "tensordesc_meta",
    "instrumentation_mode",
)


def send(channel: BinaryIO, message: object) -> None:
    data = pickle.dumps(message)
    channel.write(struct.pack("<Q", len(data)) + data)
    channel.flush()


def receive(channel: BinaryIO) -> Any:
    """The next message; None at the end."""
    head = channel.read(8)
    if len(head) < 8:
        return None
    (size,) = struct.unpack("<Q", head)
    data = channel.read(size)
    return pickle.loads(data) if len(data) == size else None


_modules: dict[str, tuple[Any, list[str]]] = {}


def _load(source: str) -> tuple[Any, list[str]]:
    """The module of a kernel's source, and the files of its neighbours that it imported."""
    if source not in _modules:
        path = Path(source)
        before = set(sys.modules)
        sys.path.insert(0, str(path.parent))
        try:
            # A name of its own: a source may be called as a module that others import.
            name = f"pega_source_{path.stem}"
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        finally:
            sys.path.pop(0)
        own = [
            getattr(sys.modules.get(name), "__file__", None) for name in set(sys.modules) - before
        ]
        near = sorted(f for f in own if f and Path(f).is_relative_to(path.parent) and f != source)
        _modules[source] = module, near
    return _modules[source]


def _assembler(compute_capability: int) -> str:
    from triton.backends.nvidia.compiler import get_ptxas_version

    found = re.search(r"V(\d+\.\d+\.\d+)", get_ptxas_version(compute_capability))
    return f"ptxas {found.group(1)}" if found else "ptxas"


def _compile(job: Job) -> Compiled | Failed:
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    module, imports = _load(job.source)
    fn = getattr(module, job.function, None)
    if fn is None:
        kernels = sorted(n for n, v in vars(module).items() if isinstance(v, triton.JITFunction))
        return Failed(
            f"no '{job.function}' in the source; it has these @triton.jit functions: "
            f"{', '.join(kernels) or 'none'}"
        )
    if not isinstance(fn, triton.JITFunction):
        return Failed(f"'{job.function}' is a {type(fn).__name__}, expected a @triton.jit function")
    given = set(job.signature) | set(job.constexprs)
    if given != set(fn.arg_names):
        missing = [n for n in fn.arg_names if n not in given]
        unknown = sorted(given - set(fn.arg_names))
        return Failed(
            f"the declaration does not match {job.function}({', '.join(fn.arg_names)}): "
            f"missing {missing or 'none'}, unknown {unknown or 'none'}"
        )
    for p in fn.params:
        if p.is_constexpr and p.name not in job.constexprs:
            return Failed(
                f"parameter '{p.name}' is tl.constexpr in the source: give it in constexprs, "
                "not in arguments"
            )

    constexprs = dict(job.constexprs)
    for name, value in constexprs.items():
        if isinstance(value, Dtype):
            constexprs[name] = tl.str_to_ty(value.name, None)
    signature = {name: job.signature.get(name, "constexpr") for name in fn.arg_names}
    attrs = {(fn.arg_names.index(name),): [["tt.divisibility", 16]] for name in job.divisible_by_16}
    # Gluon, Triton's language of explicit layouts, is the same compiler behind another beginning.
    source = GluonASTSource if fn.is_gluon() else ASTSource
    kernel = triton.compile(
        source(fn, signature, constexprs, attrs),
        target=GPUTarget("cuda", job.compute_capability, 32),
        options=dict(job.options),
    )
    metadata = {name: getattr(kernel.metadata, name, None) for name in METADATA}
    target = re.search(r"^\.target\s+(\w+)", kernel.asm["ptx"], re.MULTILINE)
    return Compiled(
        entry=kernel.metadata.name,
        arg_names=list(fn.arg_names),
        cubin=kernel.asm["cubin"],
        ptx_target=target.group(1) if target else "",
        metadata=metadata,
        triton_version=triton.__version__,
        assembler=_assembler(job.compute_capability),
        imports=imports,
    )


def _answer(job: Job, noise: BinaryIO) -> Compiled | Failed:
    noise.seek(0)
    noise.truncate()
    try:
        return _compile(job)
    except KeyboardInterrupt:
        raise
    except (
        BaseException
    ) as error:  # whatever the compiler or the source raises is told, never shown raw
        text = f"{type(error).__name__}: {error}".strip()
        cause = error.__cause__
        if cause is not None and str(cause) and str(cause) not in text:
            text += f"\ncaused by {type(cause).__name__}: {cause}"
        # ptxas failures carry the message already; MLIR's are only printed.
        said = "" if type(error).__name__ == "PTXASError" else _tail(noise)
        return Failed(text + (f"\nthe compiler said:\n{said}" if said else ""))


def _tail(noise: BinaryIO, lines: int = 15) -> str:
    noise.seek(0)
    text = noise.read().decode("utf-8", "replace")
    told = [line for line in text.splitlines() if line.strip()]
    diagnostics = [line for line in told if "error" in line.lower()]
    return "\n".join((diagnostics or told)[-lines:])


def main() -> None:
    jobs = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    noise = tempfile.TemporaryFile()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(noise.fileno(), 1)
    os.dup2(noise.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    while (job := receive(jobs)) is not None:
        send(answers, _answer(job, noise))
