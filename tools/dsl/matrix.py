#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""matrix.py BUILD: the table of every DSL's artifact, from what is built.

Run by `./dev matrix`, which builds what it can before. BUILD is a build of the bridge with its tests. What an artifact
needs where it runs comes from `pega inspect`; what ran on a GPU from docs/evidence/artifacts-H100.json, which
tests/gpu/artifacts.py writes. Prints Markdown.
"""

import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EVIDENCE = ROOT / "docs/evidence/artifacts-H100.json"
ARTIFACTS = ROOT / "build/artifacts"
# Every process has these.
ORDINARY = re.compile(r"^(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so|ld-linux|linux-vdso)")


@dataclasses.dataclass
class Row:
    """An artifact, or several of one kind."""

    dsl: str
    files: str  # pattern under build/
    made_by: str  # command
    version: tuple = ()  # package and pin file under tools/python
    search: str = ""  # folder under build/ with what it needs
    in_ci: str = "no: needs a GPU; opened, and refused without one"
    also: str = ""  # a need that no file tells


# One artifact more is one row more. What ran on a GPU is found by the file's name under build/artifacts.
TABLE = [
    Row("Triton, CUDA C++ (pack)", "kernels/qwen35.pegapack", "./dev kernels", ("triton", "kernels.txt"),
        in_ci="checked and launched on the fake driver; needs a GPU to compute", also="libcuda.so.1"),
    Row("CuTe DSL", "artifacts/cute/*.so", "./dev artifacts cute", ("nvidia-cutlass-dsl", "cute.txt"), also="libcuda.so.1"),
    Row("TileLang", "artifacts/tilelang/*.so", "./dev artifacts tilelang", ("tilelang", "dsl/cuda.txt"),
        "artifacts/tilelang/runtime", also="libcuda.so.1"),
    Row("FlashInfer", "artifacts/flashinfer/*.so", "./dev artifacts flashinfer", ("flashinfer-python", "dsl/cuda.txt"),
        "artifacts/flashinfer/runtime", also="libcuda.so.1"),
    Row("Apache TVM", "artifacts/tvm/cpu.so", "./dev artifacts tvm", ("apache-tvm", "dsl/tvm.txt"),
        in_ci="yes: called on the CPU"),
    Row("CUDA C++ (C ABI)", "artifacts/handwritten/*.so", "./dev artifacts handwritten", ("nvidia-cuda-nvcc", "kernels.txt"),
        in_ci="no: needs a GPU; refused without one", also="libcuda.so.1"),
    Row("cuBLAS (pegainfer.cublas.gemm)", "", "", in_ci="a stand-in library is called; needs a GPU to compute",
        also="libcublas.so and libcuda.so.1, opened when first called"),
    Row("pack as TVM FFI module", "artifacts/export/*.so", "./dev artifacts export", also="libcuda.so.1"),
]


def version(row):
    if not row.version:
        return ""
    package, pins = row.version
    found = re.search(rf"^{re.escape(package)}==(\S+)", (ROOT / "tools/python" / pins).read_text(), re.MULTILINE)
    return found.group(1) if found else ""


def inspect(pega, row, path):
    """What a file needs at run time, from the ELF alone."""
    command = [str(pega), "inspect", str(path), "--json"]
    if row.search:
        command += ["--search", str(ROOT / "build" / row.search)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told = json.loads(run.stdout)["files"][0]
    except (json.JSONDecodeError, KeyError, IndexError):
        return "not known: " + ((run.stderr or run.stdout).strip().splitlines() or ["pega inspect says nothing"])[-1]
    needs = [library["name"] for library in told.get("libraries", []) if not ORDINARY.match(library["name"])]
    if any(symbol["name"].startswith("TVMFFI") for symbol in told.get("symbols", [])):
        needs.append("libtvm_ffi.so")
    needs += [f"loader {loader['name']}" for loader in told.get("loaders", [])]
    if row.also and row.also not in needs:
        needs.append(row.also)
    return ", ".join(dict.fromkeys(os.path.basename(need) for need in needs)) or "libc alone"


def on_gpu():
    """Rows of the evidence, by artifact."""
    try:
        evidence = json.loads(EVIDENCE.read_text())
    except FileNotFoundError:
        return {}, ""
    rows = {}
    for row in evidence["rows"]:
        rows.setdefault(row["artifact"].removeprefix("../kernels/"), row)
    return rows, f"{evidence['device']}, {evidence['date']}, commit {evidence['commit'][:10]}"


def measured_here(build):
    """Host ns of Apache TVM's rms_norm on a row of 256: through pega, and through Python's tvm_ffi."""
    program = next(iter(build.glob("**/dsl_call")), None)
    if program is None:
        return None, None
    with tempfile.NamedTemporaryFile() as out:
        run = subprocess.run([program, out.name], capture_output=True, text=True, check=False)
    found = re.search(r"^host_ns: ([\d.]+)", run.stdout, re.MULTILINE)
    return (float(found.group(1)) if found else None), python_here()


def python_here():
    try:
        import numpy as np  # noqa: PLC0415
        import tvm_ffi  # noqa: PLC0415
    except ImportError:
        return None
    module = tvm_ffi.load_module(str(ARTIFACTS / "tvm/cpu.so"))
    memory = np.zeros(3 * 256 + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    x, weight, out = memory[start : start + 3 * 256].reshape(3, 1, 256)
    arguments = tvm_ffi.from_dlpack(x), tvm_ffi.from_dlpack(weight[0]), 1e-6, tvm_ffi.from_dlpack(out)
    costs = []
    function = module.rms_norm
    for _ in range(200):
        began = time.perf_counter_ns()
        for _ in range(1000):
            function(*arguments)
        costs.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(costs)


def number(value):
    return "" if value is None else f"{value:.0f}"


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    pega = build / "bin/pega"
    gpu, where = on_gpu()
    lines, missing = [], []
    for row in TABLE:
        if not row.files:  # a library that is there already
            ran = gpu.get("cublas") or {}
            told = "yes" if ran.get("ran") else "no"
            lines.append([row.dsl, "the system's", "none", row.also, row.in_ci, told, number(ran.get("host_ns")),
                          number(ran.get("direct_ns")), number(ran.get("python_ns"))])
            continue
        paths = sorted((ROOT / "build").glob(row.files))
        if not paths:
            missing.append(f"{row.dsl}: not built: there is no build/{row.files}; {row.made_by} makes it")
        for path in paths:
            name = str(path.relative_to(ARTIFACTS)) if path.is_relative_to(ARTIFACTS) else path.name
            ran = gpu.get(name)
            host, python = (ran or {}).get("host_ns"), (ran or {}).get("python_ns")
            if row.dsl == "Apache TVM":
                host, python, told = *measured_here(build), "no kernel for one"
            elif ran is None:
                told = "no"
            else:
                told = "yes" if ran["ran"] else f"failed: {ran.get('text', '')}"
                told += f", error {ran['max_error']:.1e}" if "max_error" in ran else ""
            lines.append([row.dsl, version(row), f"{name}, {path.stat().st_size:,} bytes", inspect(pega, row, path), row.in_ci,
                          told, number(host), number((ran or {}).get("direct_ns")), number(python)])
    head = ["DSL", "version", "artifact", "needs at run time", "runs in CI", "ran on GPU", "host ns a call", "without pega", "from Python"]
    for cells in [head, ["---"] * 6 + ["---:"] * 3, *lines]:
        print("| " + " | ".join(cells) + " |")
    print(f"\nGPU: {where or 'no evidence at ' + str(EVIDENCE.relative_to(ROOT))}.")
    for line in missing:
        print(line)


if __name__ == "__main__":
    main()
