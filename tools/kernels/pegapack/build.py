# SPDX-License-Identifier: Apache-2.0
"""From a declaration to a manifest and its blobs."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .check import check_pack, compute_capability, effective_options
from .compile import compile_all
from .container import manifest_bytes
from .cubin import CubinKernel, read_kernel
from .declare import CudaKernel, Function, Kernel, Pack, Param
from .errors import BuildError
from .golden import golden_entry
from .layout import conditions, cuda_kernel_params, kernel_params, triton_signature
from .nvcc import CudaCompiled, CudaJob, find_toolkit, join_fatbin
from .worker import Compiled, Job

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """A variant, for the table that people read."""

    function: str
    target: str
    registers: int
    local_bytes: int
    shared: int
    cubin_bytes: int


@dataclass(frozen=True)
class Built:
    manifest: bytes
    blobs: dict[str, bytes]  # in the manifest's order
    rows: list[Row]
    sources: list[Path]  # every file that the pack was made from, but the tool's own


@dataclass(frozen=True)
class _Planned:
    function: Function
    kernel: Kernel | CudaKernel
    target: str
    what: str  # for people
    source: Path
    job: Job | CudaJob


class _Blobs:
    """Content by its SHA-256; the same bytes are kept once."""

    def __init__(self) -> None:
        self._content: dict[str, tuple[bytes, str]] = {}

    def add(self, content: bytes, kind: str) -> str:
        name = hashlib.sha256(content).hexdigest()
        self._content.setdefault(name, (content, kind))
        return name

    def entries(self) -> list[dict[str, Any]]:
        return [
            {"sha256": name, "size": len(content), "kind": kind}
            for name, (content, kind) in sorted(self._content.items())
        ]

    def content(self) -> dict[str, bytes]:
        return {name: content for name, (content, _) in sorted(self._content.items())}


def load_declaration(path: Path) -> tuple[Pack, list[Path]]:
    """Runs a declaration file: its PACK, checked, and the neighbours that it imported."""
    if not path.exists():
        raise BuildError(f"{path} is not there: expected a Python file that sets PACK")
    spec = importlib.util.spec_from_file_location("pega_declaration", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BuildError(f"{path} is no Python file: expected one, NAME.py, that sets PACK")
    before = set(sys.modules)
    folder = path.resolve().parent
    sys.path.insert(0, str(folder))
    try:
        module = importlib.util.module_from_spec(spec)
        sys.modules["pega_declaration"] = module  # dataclasses of the declaration look it up
        spec.loader.exec_module(module)
    except BuildError as error:
        raise BuildError(f"{path}: {error}") from error
    except Exception as error:  # the file's own code
        line = _line_in(path, error)
        raise BuildError(f"{path}{line}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not hasattr(module, "PACK"):
        raise BuildError(f"{path} does not set PACK to a pegapack.Pack")
    try:
        check_pack(module.PACK)
    except BuildError as error:
        raise BuildError(f"{path}: {error}") from error
    files = [getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before]
    paths = {Path(f).resolve() for f in files if f}
    near = [p for p in paths if p.is_relative_to(folder) and not p.is_relative_to(sys.prefix)]
    return module.PACK, sorted(near)


def _line_in(path: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def plan(
    pack: Pack, folder: Path, only: Sequence[str] | None, line_info: bool = False
) -> list[_Planned]:
    """What has to be compiled, in the manifest's order."""
    planned = []
    for function in pack.functions:
        for kernel in function.kernels:
            targets = pack.targets if kernel.targets is None else kernel.targets
            for target in targets:
                if only is None or target in only:
                    planned.append(_plan(function, kernel, target, folder, line_info))
    if not planned:
        raise BuildError(f"pack '{pack.name}' has no kernel for {', '.join(only or ())}")
    return planned


def _plan(
    function: Function, kernel: Kernel | CudaKernel, target: str, folder: Path, line_info: bool
) -> _Planned:
    what = f"function '{function.name}' for {target} ({kernel.source}: {kernel.function})"
    source = (folder / kernel.source).resolve()
    if not source.is_file():
        raise BuildError(f"{what}: {source} is not there")
    if isinstance(kernel, CudaKernel):
        job: Job | CudaJob = _cuda_job(kernel, target, what, source, line_info)
    else:
        job = _triton_job(kernel, target, what, source)
    return _Planned(function, kernel, target, what, source, job)


def _triton_job(kernel: Kernel, target: str, what: str, source: Path) -> Job:
    options = effective_options(kernel, target, what)
    constexprs = {**kernel.constexprs, **kernel.constexprs_for.get(target, {})}
    special = {name for name, arg in kernel.arguments.items() if getattr(arg, "equal_to_1", False)}
    constexprs.update({name: 1 for name in special})
    return Job(
        what=what,
        source=str(source),
        function=kernel.function,
        signature=triton_signature(kernel),
        constexprs=constexprs,
        divisible_by_16=tuple(
            name
            for name, arg in kernel.arguments.items()
            if getattr(arg, "divisible_by_16", False) and name not in special
        ),
        compute_capability=compute_capability(target),
        options={k: v for k, v in dataclasses.asdict(options).items() if v is not None},
    )


def _cuda_job(kernel: CudaKernel, target: str, what: str, source: Path, line_info: bool) -> CudaJob:
    new = compute_capability(target) >= 90
    if not new and list(kernel.cluster) != [1, 1, 1]:
        raise BuildError(f"{what}: clusters came with sm_90; give the kernel's targets")
    return CudaJob(
        what=what,
        source=str(source),
        target=f"{target}a" if new and kernel.architecture_specific else target,
        defines=tuple((name, str(value)) for name, value in kernel.defines.items()),
        maxnreg=kernel.maxnreg,
        fast_math=kernel.fast_math,
        line_info=line_info,
        compiler=kernel.compiler,
    )


def build(
    pack: Pack,
    declaration: Path,
    neighbours: Sequence[Path],
    *,
    only: Sequence[str] | None,
    workers: int,
    cache: Path | None,
    line_info: bool,
    started: Callable[[int], None],
    done: Callable[[str], None],
) -> Built:
    """Compiles a pack. `started` is told how many kernels there are, `done` each one's end."""
    planned = plan(pack, declaration.resolve().parent, only, line_info)
    started(len(planned))
    jobs: list[Job | CudaJob] = []
    numbers: dict[CudaJob, int] = {}  # a CUDA source is compiled once for all of its kernels
    takes: list[int] = []  # for each planned kernel the number of its job
    for p in planned:
        number = numbers.get(p.job) if isinstance(p.job, CudaJob) else None
        if number is None:
            number = len(jobs)
            jobs.append(p.job)
            if isinstance(p.job, CudaJob):
                numbers[p.job] = number
        takes.append(number)

    def finished(job: Job | CudaJob) -> None:
        for p, number in zip(planned, takes, strict=True):
            if jobs[number] is job:
                done(p.what)

    results = compile_all(jobs, workers=workers, cache=cache, line_info=line_info, done=finished)
    compiled = [results[number] for number in takes]
    fatbins = _fatbins(planned, compiled)
    blobs = _Blobs()
    rows: list[Row] = []
    variants: dict[str, list[dict[str, Any]]] = {}
    for p, c in zip(planned, compiled, strict=True):
        if isinstance(c, CudaCompiled):
            variant = _cuda_variant(p, c, blobs, line_info, fatbins.get(_group(p)))
        else:
            variant = _variant(p, c, blobs, line_info)
        variants.setdefault(p.function.name, []).append(variant)
        rows.append(
            Row(
                p.function.name,
                variant["target"],
                variant["registers"],
                variant["local_bytes"],
                variant["shared"] + variant["static_shared"],
                len(c.cubin),
            )
        )
    functions = [
        _function(f, variants[f.name], blobs) for f in pack.functions if f.name in variants
    ]
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": pack.name,
        "doc": pack.doc,
        "blobs": blobs.entries(),
        "functions": functions,
    }
    sources = {declaration.resolve(), *neighbours, *(p.source for p in planned)}
    sources.update(Path(i) for c in compiled for i in c.imports)
    return Built(manifest_bytes(manifest), blobs.content(), rows, sorted(sources))


def _function(function: Function, variants: list[dict[str, Any]], blobs: _Blobs) -> dict[str, Any]:
    return {
        "name": function.name,
        "doc": function.doc,
        "same_device": function.same_device,
        "params": [_param(p) for p in function.params],
        "variants": variants,
        "golden": [golden_entry(function, g, blobs.add) for g in function.golden],
    }


def _param(param: Param) -> dict[str, Any]:
    """Fields that say something; what is absent has its default."""
    entry = {
        k: v
        for k, v in dataclasses.asdict(param).items()
        if v is not None and v is not False and not (k == "alignment" and v == 0)
    }
    entry["doc"] = param.doc
    return entry


def _variant(p: _Planned, c: Compiled, blobs: _Blobs, line_info: bool) -> dict[str, Any]:
    what, kernel = p.what, p.kernel
    assert isinstance(kernel, Kernel)
    cubin = read_kernel(c.cubin, c.entry, what)
    meta = c.metadata
    _check_compiled(p, c, cubin.compute_capability, line_info)
    block = [32 * meta["num_warps"], 1, 1]
    if cubin.block is not None and list(cubin.block) != block:
        raise BuildError(f"{what}: Triton says {block[0]} threads, the cubin wants {cubin.block}")
    alignments = {q.name: q.alignment for q in p.function.params}
    ctas = meta["num_ctas"]
    x, y, z = (str(g) for g in kernel.grid)
    when = conditions(kernel, alignments)
    return {
        "target": c.ptx_target,
        "blob": blobs.add(c.cubin, "cubin"),
        "entry": c.entry,
        **({"when": when} if when else {}),
        "params": kernel_params(kernel, c, cubin, what),
        # Triton's grid counts programs, the manifest's CTAs: a program is a cluster.
        "grid": [x if ctas == 1 else f"({x}) * {ctas}", y, z],
        "block": block,
        "cluster": [ctas, 1, 1],
        "shared": meta["shared"],
        "static_shared": cubin.static_shared,
        "registers": cubin.registers,
        "local_bytes": cubin.local_bytes,
        "pdl": bool(meta["launch_pdl"]),
        "cooperative": bool(meta["launch_cooperative_grid"]),
        "global_scratch": {
            "size": meta["global_scratch_size"],
            "alignment": meta["global_scratch_align"],
        },
        "profile_scratch": {
            "size": meta["profile_scratch_size"],
            "alignment": meta["profile_scratch_align"],
        },
        "made_by": {
            "tool": "triton",
            "version": c.triton_version,
            "assembler": c.assembler,
            "source": p.source.name,
            "source_sha256": hashlib.sha256(p.source.read_bytes()).hexdigest(),
            "flags": {
                k: v
                for k, v in dataclasses.asdict(effective_options(kernel, p.target, what)).items()
                if v is not None
            },
        },
    }


def _check_compiled(p: _Planned, c: Compiled, cubin_capability: int, line_info: bool) -> None:
    """What Triton returned has to be something that a manifest can say."""
    what, meta = p.what, c.metadata
    wanted = compute_capability(p.target)
    if cubin_capability != wanted or not c.ptx_target.startswith(f"sm_{wanted}"):
        raise BuildError(
            f"{what}: Triton made code for {c.ptx_target or 'an unknown target'} (sm_"
            f"{cubin_capability} in the cubin), expected {p.target}"
        )
    missing = [
        name
        for name, value in meta.items()
        if value is None and name not in ("tensordesc_meta", "tmem_size", "instrumentation_mode")
    ]
    if missing:
        raise BuildError(
            f"{what}: Triton {c.triton_version} does not say {', '.join(missing)}; this tool was "
            "written for 3.9"
        )
    if meta["instrumentation_mode"]:
        raise BuildError(
            f"{what}: instrumented code ({meta['instrumentation_mode']}) cannot be packed"
        )
    if not line_info:
        _check_no_path(what, c.cubin, p.source.parent, "its source")


def _check_no_path(what: str, cubin: bytes, folder: Path, of: str) -> None:
    if str(folder).encode() in cubin:
        raise BuildError(
            f"{what}: the cubin holds the folder of {of}, {folder}, so its bytes "
            "depend on where it was built; take the path out of the kernel's constants"
        )


def _group(p: _Planned) -> CudaJob | None:
    """What the targets of a fatbin have in common; None for a kernel that wants none."""
    if not isinstance(p.kernel, CudaKernel) or p.kernel.format != "fatbin":
        return None
    assert isinstance(p.job, CudaJob)
    return dataclasses.replace(p.job, target="")


def _fatbins(
    planned: Sequence[_Planned], compiled: Sequence[Compiled | CudaCompiled]
) -> dict[CudaJob | None, bytes]:
    """Each group's code for all of its targets."""
    cubins: dict[CudaJob, dict[str, bytes]] = {}
    for p, c in zip(planned, compiled, strict=True):
        group = _group(p)
        if group is not None:
            assert isinstance(p.job, CudaJob)
            cubins.setdefault(group, {})[p.job.target] = c.cubin
    return {group: join_fatbin(code, find_toolkit()) for group, code in cubins.items()}


def _cuda_variant(
    p: _Planned, c: CudaCompiled, blobs: _Blobs, line_info: bool, fatbin: bytes | None
) -> dict[str, Any]:
    what, kernel, job = p.what, p.kernel, p.job
    assert isinstance(kernel, CudaKernel) and isinstance(job, CudaJob)
    if kernel.function not in c.entries:
        start = f"_Z{len(kernel.function)}{kernel.function}"
        mangled = any(name.startswith(start) for name in c.entries)
        raise BuildError(
            f"{what}: no kernel '{kernel.function}' in the source; it has: "
            f"{', '.join(sorted(c.entries)) or 'none'}"
            + ('; declare it extern "C", so that its name stays as it is' if mangled else "")
        )
    cubin = read_kernel(c.cubin, kernel.function, what)
    _check_cuda_compiled(kernel, cubin, compute_capability(p.target), what)
    if not line_info:
        _check_no_path(what, c.cubin, p.source.parent, "its source")
        _check_no_path(what, c.cubin, find_toolkit().folder, "the compiler")
    new = compute_capability(p.target) >= 90
    when = conditions(kernel, {})
    flags: dict[str, Any] = {
        "defines": [f"{name}={value}" for name, value in job.defines],
        "fast_math": kernel.fast_math,
        "launch_cooperative_grid": kernel.launch_cooperative_grid,
        "launch_pdl": kernel.launch_pdl,
    }
    if kernel.maxnreg is not None:
        flags["maxnreg"] = kernel.maxnreg
    return {
        "target": job.target,
        "blob": blobs.add(c.cubin, "cubin") if fatbin is None else blobs.add(fatbin, "fatbin"),
        "entry": kernel.function,
        **({"when": when} if when else {}),
        "params": cuda_kernel_params(kernel, c.entries[kernel.function], cubin, what),
        "grid": [str(g) for g in kernel.grid],
        "block": list(kernel.block),
        "cluster": list(kernel.cluster),
        "shared": kernel.shared,
        "static_shared": cubin.static_shared,
        "registers": cubin.registers,
        "local_bytes": cubin.local_bytes,
        "pdl": kernel.launch_pdl and new,
        "cooperative": kernel.launch_cooperative_grid,
        "global_scratch": {"size": 0, "alignment": 1},
        "profile_scratch": {"size": 0, "alignment": 1},
        "made_by": {
            "tool": job.compiler,
            "version": c.compiler,
            "assembler": c.assembler,
            "source": p.source.name,
            "source_sha256": hashlib.sha256(p.source.read_bytes()).hexdigest(),
            "flags": flags,
        },
    }


def _check_cuda_compiled(
    kernel: CudaKernel, cubin: CubinKernel, capability: int, what: str
) -> None:
    """What the declaration says of a launch against what the code was made for."""
    if cubin.compute_capability != capability:
        raise BuildError(
            f"{what}: nvcc made code for sm_{cubin.compute_capability}, expected sm_{capability}"
        )
    block, cluster = list(kernel.block), list(kernel.cluster)
    threads = block[0] * block[1] * block[2]
    if cubin.block is not None and list(cubin.block) != block:
        raise BuildError(f"{what}: the block is {block}, the kernel wants {list(cubin.block)}")
    if cubin.max_threads is not None and threads > cubin.max_threads:
        raise BuildError(
            f"{what}: the block {block} has {threads} threads, the kernel is compiled for "
            f"{cubin.max_threads} at most (__launch_bounds__)"
        )
    if cubin.cluster is not None and list(cubin.cluster) != cluster:
        raise BuildError(
            f"{what}: the cluster is {cluster}, the kernel wants {list(cubin.cluster)}"
        )
