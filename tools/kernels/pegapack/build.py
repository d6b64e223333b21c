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
from .cubin import read_kernel
from .declare import Function, Kernel, Options, Pack, Param
from .errors import BuildError
from .golden import golden_entry
from .layout import conditions, kernel_params, triton_signature
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
    kernel: Kernel
    target: str
    options: Options
    source: Path
    job: Job


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


def plan(pack: Pack, folder: Path, only: Sequence[str] | None) -> list[_Planned]:
    """What has to be compiled, in the manifest's order."""
    planned = []
    for function in pack.functions:
        for kernel in function.kernels:
            targets = pack.targets if kernel.targets is None else kernel.targets
            for target in targets:
                if only is None or target in only:
                    planned.append(_plan(function, kernel, target, folder))
    if not planned:
        raise BuildError(f"pack '{pack.name}' has no kernel for {', '.join(only or ())}")
    return planned


def _plan(function: Function, kernel: Kernel, target: str, folder: Path) -> _Planned:
    what = f"function '{function.name}' for {target} ({kernel.source}: {kernel.function})"
    source = (folder / kernel.source).resolve()
    if not source.is_file():
        raise BuildError(f"{what}: {source} is not there")
    options = effective_options(kernel, target, what)
    constexprs = {**kernel.constexprs, **kernel.constexprs_for.get(target, {})}
    special = {name for name, arg in kernel.arguments.items() if getattr(arg, "equal_to_1", False)}
    constexprs.update({name: 1 for name in special})
    job = Job(
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
    return _Planned(function, kernel, target, options, source, job)


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
    planned = plan(pack, declaration.resolve().parent, only)
    started(len(planned))
    compiled = compile_all(
        [p.job for p in planned],
        workers=workers,
        cache=cache,
        line_info=line_info,
        done=lambda job: done(job.what),
    )
    blobs = _Blobs()
    rows: list[Row] = []
    variants: dict[str, list[dict[str, Any]]] = {}
    for p, c in zip(planned, compiled, strict=True):
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
    what = p.job.what
    cubin = read_kernel(c.cubin, c.entry, what)
    meta = c.metadata
    _check_compiled(p, c, cubin.compute_capability, line_info)
    block = [32 * meta["num_warps"], 1, 1]
    if cubin.block is not None and list(cubin.block) != block:
        raise BuildError(f"{what}: Triton says {block[0]} threads, the cubin wants {cubin.block}")
    alignments = {q.name: q.alignment for q in p.function.params}
    ctas = meta["num_ctas"]
    x, y, z = (str(g) for g in p.kernel.grid)
    when = conditions(p.kernel, alignments)
    return {
        "target": c.ptx_target,
        "blob": blobs.add(c.cubin, "cubin"),
        "entry": c.entry,
        **({"when": when} if when else {}),
        "params": kernel_params(p.kernel, c, cubin, what),
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
            "flags": {k: v for k, v in dataclasses.asdict(p.options).items() if v is not None},
        },
    }


def _check_compiled(p: _Planned, c: Compiled, cubin_capability: int, line_info: bool) -> None:
    """What Triton returned has to be something that a manifest can say."""
    what, meta = p.job.what, c.metadata
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
    folder = str(p.source.parent).encode()
    if not line_info and folder in c.cubin:
        raise BuildError(
            f"{what}: the cubin holds the folder of its source, {p.source.parent}, so its bytes "
            "depend on where it was built; take the path out of the kernel's constants"
        )
