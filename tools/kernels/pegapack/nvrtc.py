# SPDX-License-Identifier: Apache-2.0
"""Compiles CUDA C with the NVRTC that is pinned beside nvcc: no host compiler has a part in it.

NVRTC is called by ctypes in a process of its own (this file run as a program), whatever may become
of it. Headers of the source's own folder are given to it as text; the toolkit's are read from the
pinned packages.
"""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

_PACKAGE = "nvidia-cuda-nvrtc"
_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)


def library(folder: Path) -> Path:
    """The pinned library; `folder` is the toolkit's."""
    return folder / "lib" / "libnvrtc.so.13"


def headers(source: Path) -> dict[str, Path]:
    """The files beside a source that it includes in quotes, and those that these include, by the
    names that are in the text."""
    found: dict[str, Path] = {}
    waiting = [source]
    while waiting:
        text = waiting.pop().read_bytes()
        for name in (n.decode("utf-8", "replace") for n in _INCLUDE.findall(text)):
            path = (source.parent / name).resolve()
            if name not in found and path.is_file():
                found[name] = path
                waiting.append(path)
    return found


def compile_nvrtc(job, toolkit, scratch: Path, run):
    """The cubin, the PTX, NVRTC's version and the files that were included; or what went wrong."""
    source = Path(job.source)
    if not library(toolkit.folder).is_file():
        return (
            f"NVRTC is not there ({library(toolkit.folder)}): tools/python/kernels.txt pins "
            f"{_PACKAGE}; './dev kernels' installs it"
        )
    own = headers(source)
    work = Path(tempfile.mkdtemp(prefix="nvrtc-", dir=scratch))
    order = {
        "library": str(library(toolkit.folder)),
        "source": str(source),
        "headers": [[name, str(path)] for name, path in sorted(own.items())],
        "options": _options(job, toolkit),
        "out": str(work / "out"),
    }
    (work / "order").write_text(json.dumps(order))
    status, said = run([sys.executable, "-s", "-B", __file__, str(work / "order")], source.parent)
    if status != 0:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        lines = [line for line in said.splitlines() if line.strip()]
        return "\n".join([f"NVRTC failed ({how})", *lines[:30]])
    cubin = (work / "out.cubin").read_bytes()
    ptx = (work / "out.ptx").read_text()
    version = (work / "out.version").read_text()
    shutil.rmtree(work, ignore_errors=True)
    return cubin, ptx, version, sorted(str(p) for p in own.values())


def _options(job, toolkit) -> list[str]:
    return [
        f"-arch={job.target}",
        "-std=c++17",
        f"-I{toolkit.folder / 'include'}",
        f"-I{toolkit.folder / 'include' / 'cccl'}",
        *((f"-maxrregcount={job.maxnreg}",) if job.maxnreg is not None else ()),
        *(("-use_fast_math",) if job.fast_math else ()),
        *(("-lineinfo",) if job.line_info else ()),
        *(f"-D{name}={value}" for name, value in job.defines),
    ]


# --- The process ---


def _program(nvrtc: ctypes.CDLL, order: dict) -> ctypes.c_void_p:
    program = ctypes.c_void_p()
    names = [name.encode() for name, _ in order["headers"]]
    texts = [Path(path).read_bytes() for _, path in order["headers"]]
    kind = ctypes.c_char_p * max(1, len(names))
    _check(
        nvrtc,
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program),
            Path(order["source"]).read_bytes(),
            Path(order["source"]).name.encode(),  # __FILE__
            len(names),
            kind(*texts),
            kind(*names),
        ),
        "nvrtcCreateProgram",
    )
    return program


def _check(nvrtc: ctypes.CDLL, result: int, call: str) -> None:
    if result != 0:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        sys.exit(f"{call}: {nvrtc.nvrtcGetErrorString(result).decode()} ({result})")


def _get(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    call = f"nvrtcGet{what}"
    _check(nvrtc, getattr(nvrtc, f"{call}Size")(program, ctypes.byref(size)), f"{call}Size")
    buffer = ctypes.create_string_buffer(max(1, size.value))
    _check(nvrtc, getattr(nvrtc, call)(program, buffer), call)
    return buffer.raw[: size.value]


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    # NVRTC opens its builtins by name: the one beside it, wherever the system has another or none.
    for builtins in sorted(Path(order["library"]).parent.glob("libnvrtc-builtins.so.*")):
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(order["library"])
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(nvrtc, nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
    program = _program(nvrtc, order)
    options = [option.encode() for option in order["options"]]
    result = nvrtc.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    if result != 0:
        print(_get(nvrtc, program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace"))
    _check(nvrtc, result, "nvrtcCompileProgram")
    out = order["out"]
    Path(f"{out}.cubin").write_bytes(_get(nvrtc, program, "CUBIN"))
    Path(f"{out}.ptx").write_bytes(_get(nvrtc, program, "PTX").rstrip(b"\0"))
    Path(f"{out}.version").write_text(f"{major.value}.{minor.value}")


if __name__ == "__main__":
    main()
