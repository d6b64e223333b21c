# SPDX-License-Identifier: Apache-2.0
"""Compiles CUDA C with the nvcc, or NVRTC, pinned beside Triton, whatever CUDA the machine has."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BuildError
from .nvrtc import compile_nvrtc

# What nvcc runs and reads, with the package of tools/python/kernels.txt that has it.
_PARTS = {
    "bin/nvcc": "nvidia-cuda-nvcc",
    "bin/ptxas": "nvidia-cuda-nvcc",
    "bin/fatbinary": "nvidia-cuda-nvcc",
    "nvvm/bin/cicc": "nvidia-nvvm",
    "include/crt/host_config.h": "nvidia-cuda-crt",
    "include/cuda_runtime.h": "nvidia-cuda-runtime",
    "include/cccl/nv/target": "nvidia-cuda-cccl",
}
_STANDARD = "c++17"
_LINES = 30  # of what nvcc says, in an error

# Runs a command in a folder: its exit status, negative for a signal, and all that it said.
Run = Callable[[Sequence[str], Path], tuple[int, str]]


@dataclass(frozen=True)
class CudaJob:
    """One compilation, of a whole source: all of its kernels come of it."""

    what: str = field(compare=False)  # for people: the first of the kernels
    source: str
    target: str  # "sm_90a"
    defines: tuple[tuple[str, str], ...]
    maxnreg: int | None
    fast_math: bool
    line_info: bool
    compiler: str = "nvcc"  # or "nvrtc"


@dataclass(frozen=True)
class CudaCompiled:
    """What came of it."""

    cubin: bytes
    entries: Mapping[str, Sequence[str]]  # each kernel's parameters, by their types in PTX
    compiler: str  # "13.0.88"
    assembler: str
    imports: list[str]  # files that the source included, but for the compiler's own


@dataclass(frozen=True)
class Toolkit:
    folder: Path
    compiler: str
    assembler: str
    host_compiler: str
    host_version: str


def find_folder(where: Path) -> Path:
    """Where the pinned packages are, all of them, in a folder of Python packages."""
    folder = where / "nvidia" / "cu13"
    missing = {package for part, package in _PARTS.items() if not (folder / part).is_file()}
    if missing:
        raise BuildError(
            f"CUDA kernels need nvcc, and {where} lacks {', '.join(sorted(missing))}: './dev "
            "kernels' makes an interpreter that has what tools/python/kernels.txt pins, "
            "build/kernels-python/bin/python3"
        )
    return folder


def find_host_compiler(environment: Mapping[str, str]) -> str:
    """What nvcc lets preprocess. None of its code gets into a cubin."""
    named = environment.get("CXX", "").strip()
    for name in (named, "g++", "c++", "clang++"):
        found = shutil.which(name, path=environment.get("PATH")) if name else None
        if found is not None:
            return found
    raise BuildError(
        "CUDA kernels need a C++ compiler to preprocess, and there is none in PATH (looked for "
        f"{'CXX, ' if named else ''}g++, c++, clang++): install g++, or name one in CXX"
    )


@functools.cache
def find_toolkit() -> Toolkit:
    folder = find_folder(Path(sysconfig.get_path("purelib")))
    host = find_host_compiler(os.environ)

    def version(program: Path | str, pattern: str) -> str:
        try:
            said = subprocess.run(
                [str(program), "--version"],
                capture_output=True,
                text=True,
                errors="replace",
                check=True,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            ).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildError(f"{program} does not run: {error}") from error
        found = re.search(pattern, said)
        return found.group(1) if found else "unknown"

    return Toolkit(
        folder=folder,
        compiler=version(folder / "bin" / "nvcc", r"V(\d+\.\d+\.\d+)"),
        assembler="ptxas " + version(folder / "bin" / "ptxas", r"V(\d+\.\d+\.\d+)"),
        host_compiler=host,
        host_version=version(host, r"(.*)"),
    )


def compile_cuda(
    job: CudaJob, toolkit: Toolkit, scratch: Path, cache: Path | None, run: Run
) -> CudaCompiled | str:
    """The result, or what went wrong."""
    source = Path(job.source)
    # Line information holds the source's path, which the cache does not know.
    uncached = cache is None or job.line_info or job.compiler != "nvcc"
    kept = None if uncached or cache is None else cache / f"nvcc-{_key(job, toolkit)}"
    found = _read_cache(kept, source.parent, toolkit) if kept is not None else None
    if found is not None:
        return found
    if job.compiler == "nvrtc":
        made = compile_nvrtc(job, toolkit, scratch, run)
        if isinstance(made, str):
            return made
        cubin, ptx, version, imports = made
        return CudaCompiled(cubin, _entries(ptx), version, "in NVRTC", imports)
    work = Path(tempfile.mkdtemp(prefix="nvcc-", dir=scratch))
    out, rule = work / "out.cubin", work / "out.d"
    status, said = run(_command(job, toolkit, work, out, rule), source.parent)
    if status != 0:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        lines = [line for line in said.splitlines() if line.strip()]
        return "\n".join([f"nvcc failed ({how})", *lines[:_LINES]])
    ptx = (work / f"{source.stem}.ptx").read_text()
    compiled = CudaCompiled(
        cubin=out.read_bytes(),
        entries=_entries(ptx),
        compiler=toolkit.compiler,
        assembler=toolkit.assembler,
        imports=_imports(rule.read_text(), source, toolkit.folder),
    )
    shutil.rmtree(work, ignore_errors=True)
    if kept is not None:
        try:
            _write_cache(kept, source.parent, compiled)
        except OSError as error:
            return f"cannot write {kept}: {error.strerror or error}"
    return compiled


def _command(job: CudaJob, toolkit: Toolkit, work: Path, out: Path, rule: Path) -> list[str]:
    """Run in the source's folder: __FILE__ is then its name alone."""
    number = job.target.removeprefix("sm_")
    return [
        str(toolkit.folder / "bin" / "nvcc"),
        "--cubin",
        *("-gencode", f"arch=compute_{number},code={job.target}"),
        f"-std={_STANDARD}",
        "-O3",
        *("-ccbin", toolkit.host_compiler),
        "-allow-unsupported-compiler",  # it preprocesses only
        *("--keep", "--keep-dir", str(work)),
        *("-MMD", "-MF", str(rule)),
        *(("-maxrregcount", str(job.maxnreg)) if job.maxnreg is not None else ()),
        *(("-use_fast_math",) if job.fast_math else ()),
        *(("-lineinfo",) if job.line_info else ()),
        *(f"-D{name}={value}" for name, value in job.defines),
        *("-o", str(out)),
        Path(job.source).name,
    ]


def _entries(ptx: str) -> dict[str, list[str]]:
    """Of `.param .u64 scale_param_0`, "u64"; of `.param .align 2 .b8 scale_param_1[2]`, "b8[2]"."""
    entries = {}
    for name, params in re.findall(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)", ptx):
        types = re.findall(
            r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+(?:\.ptr\s+)?(?:\.\w+\s+)*?"
            r"(?:\.align\s+\d+\s+)?[\w$]+(\[\d+\])?",
            params,
        )
        entries[name] = [kind + size for kind, size in types]
    return entries


def _imports(rule: str, source: Path, toolkit: Path) -> list[str]:
    """What a Makefile's rule names, but for the source and for what is the compiler's."""
    _, _, inputs = rule.replace("\\\n", " ").partition(" : ")
    names = [re.sub(r"\\(.)", r"\1", n) for n in re.findall(r"(?:\\.|\S)+", inputs)]
    paths = {(source.parent / name).resolve() for name in names} - {source}
    return sorted(str(p) for p in paths if not p.is_relative_to(toolkit.resolve()))


# --- What was compiled before: keyed by the source and the command, valid for what it included ---


def _key(job: CudaJob, toolkit: Toolkit) -> str:
    parts = [
        1,  # the form of what is kept
        *(toolkit.compiler, toolkit.assembler, toolkit.host_version, _STANDARD),
        *(job.target, job.defines, job.maxnreg, job.fast_math),
        *(Path(job.source).name, _hash(Path(job.source))),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_cache(kept: Path, folder: Path, compiled: CudaCompiled) -> None:
    head = {
        "entries": compiled.entries,
        "imports": [[os.path.relpath(p, folder), _hash(Path(p))] for p in compiled.imports],
        "sha256": hashlib.sha256(compiled.cubin).hexdigest(),
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f"{kept.name}.{os.getpid()}.part")
    try:
        part.write_bytes(json.dumps(head).encode() + b"\n" + compiled.cubin)
        os.replace(part, kept)
    finally:
        part.unlink(missing_ok=True)


def _read_cache(kept: Path, folder: Path, toolkit: Toolkit) -> CudaCompiled | None:
    """None where there is nothing, or something that is not whole or no longer true."""
    try:
        text, _, cubin = kept.read_bytes().partition(b"\n")
        head = json.loads(text)
        imports = [(folder / name).resolve() for name, _ in head["imports"]]
        if [_hash(p) for p in imports] != [h for _, h in head["imports"]]:
            return None
        if hashlib.sha256(cubin).hexdigest() != head["sha256"]:
            return None
        return CudaCompiled(
            cubin, head["entries"], toolkit.compiler, toolkit.assembler, [str(p) for p in imports]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- Several targets in one blob ---


def join_fatbin(cubins: Mapping[str, bytes], toolkit: Toolkit) -> bytes:
    """The cubins of a source, by target, in one uncompressed fatbin, made by the toolkit's own tool."""
    with tempfile.TemporaryDirectory(prefix="fatbin-") as folder:
        images = []
        for target, cubin in sorted(cubins.items()):
            (Path(folder) / f"{target}.cubin").write_bytes(cubin)
            number = target.removeprefix("sm_")
            images.append(f"--image3=kind=elf,sm={number},file={target}.cubin")
        made = subprocess.run(
            [str(toolkit.folder / "bin" / "fatbinary"), "--create=out.fatbin", "-64"]
            + ["--compress-mode=none", "--compress=false", *images],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
        )
        if made.returncode != 0:
            raise BuildError(f"fatbinary failed: {(made.stderr or made.stdout).strip()}")
        return (Path(folder) / "out.fatbin").read_bytes()
