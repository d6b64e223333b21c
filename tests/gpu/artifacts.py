# SPDX-License-Identifier: Apache-2.0
"""artifacts.py PROGRAM FOLDER -o EVIDENCE [--log FILE]...: what test_gpu_artifacts finds of each artifact in FOLDER, and what the
same call costs from Python through tvm_ffi with torch's tensors, as one JSON file. Lines "ROW {...}" of the FILEs, what
other tests printed, join or complete the rows.

    {"device": "NVIDIA H100 ...", "date": "2026-11-23", "commit": "...", "python": {...},
     "rows": [{"dsl", "artifact", "function", "ran", "max_error", "host_ns", "direct_ns", "python_ns", "text"}]}

host_ns is a call through pega, direct_ns the same by TVM FFI's own C function with nothing of pega in it,
python_ns the same from Python. A row that did not run has a text that says why. PROGRAM may be `-`: Python's side alone. Environment:
PEGA_TEST_COMMIT names the commit; PEGA_TEST_OLD_TVM_FFI a folder with the tvm_ffi that TileLang's modules
need. To add Python's side of a row, add to CALLS.
"""

import argparse
import ctypes
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROWS, COLUMNS = 64, 4096


def rms_norm_tensors(torch, dtype):
    x = torch.rand(ROWS, COLUMNS, device="cuda").mul_(2).sub_(1).to(dtype)
    weight = torch.rand(COLUMNS, device="cuda").to(dtype)
    out = torch.zeros_like(x)
    y = x.double()
    right = y * weight.double() / (y.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
    return x, weight, out, right


def tilelang(torch, dtype):
    x, weight, out, right = rms_norm_tensors(torch, dtype)
    return (x, weight, out, 1e-6), out, right


def flashinfer_norm(torch, dtype):
    x, weight, out, right = rms_norm_tensors(torch, dtype)
    return (out, x, weight, 1e-6, False), out, right


def dots(torch, dtype):
    q = torch.randint(-128, 129, (64, 8, 128), device="cuda").div(128).to(dtype)
    kv = torch.randint(-128, 129, (512, 128), device="cuda").div(128).to(dtype)
    out = torch.zeros(64, 8, 512, device="cuda")
    return (q, kv, out), out, torch.einsum("thd,cd->thc", q.double(), kv.double())


def cumsum(torch, dtype):
    g = torch.randint(-128, 1, (200, 32), device="cuda").div(128).to(dtype)
    out = torch.zeros_like(g)
    right = torch.cat([chunk.double().cumsum(0) for chunk in g.split(64)])
    return (g, out, 200, 32), out, right


# By artifact and function: what makes (arguments, output, what it has to be), the type of its tensors, libraries to
# load before it, and whether it needs the old tvm_ffi.
CALLS = {
    ("tilelang/rms_norm_bf16.so", "rms_norm"): (tilelang, "bfloat16", ["tilelang/runtime/libtvm_runtime.so"], True),
    ("tilelang/rms_norm_fp16.so", "rms_norm"): (tilelang, "float16", ["tilelang/runtime/libtvm_runtime.so"], True),
    ("flashinfer/norm.so", "rmsnorm"): (flashinfer_norm, "bfloat16", [], False),
    ("cute/indexer_tvm_ffi.so", "indexer_dots"): (dots, "bfloat16", [], False),
    ("export/qwen35.so", "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_cumsum"): (cumsum, "float32", [], False),
}


def measure(torch, function, arguments, batches=200, calls=100):
    """The median, over batches, of what a call into a stream costs, in ns."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < 0.5:
        for _ in range(calls):
            function(*arguments)
        torch.cuda.synchronize()
    costs = []
    for _ in range(batches):
        start = time.perf_counter_ns()
        for _ in range(calls):
            function(*arguments)
        costs.append((time.perf_counter_ns() - start) / calls)
        torch.cuda.synchronize()
    return statistics.median(costs)


def python_side(folder, artifact, name):
    """What a process of its own prints: {"python_ns", "python_error"}."""
    make, dtype, libraries, old = CALLS[artifact, name]
    if old and os.environ.get("PEGA_TEST_OLD_TVM_FFI"):
        sys.path.insert(0, os.environ["PEGA_TEST_OLD_TVM_FFI"])
    import torch  # noqa: PLC0415
    import tvm_ffi  # noqa: PLC0415

    for library in libraries:
        ctypes.CDLL(str(folder / library), ctypes.RTLD_GLOBAL)
    function = tvm_ffi.load_module(str(folder / artifact))[name]
    arguments, out, right = make(torch, getattr(torch, dtype))
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda.synchronize()
        function(*arguments)
        torch.cuda.synchronize()
        error = float(((out.double() - right).abs().amax(-1) / right.abs().amax(-1).clamp(min=1e-30)).max())
        print(json.dumps({"python_ns": round(measure(torch, function, arguments)), "python_error": error}))


def run_python_side(folder, row):
    key = row["artifact"], row["function"]
    if key not in CALLS:
        return {}
    environment = dict(os.environ)
    old = environment.get("PEGA_TEST_OLD_TVM_FFI")
    if CALLS[key][3] and old:  # its Python part looks for its library in these folders first
        environment["LD_LIBRARY_PATH"] = f"{old}/tvm_ffi/lib:{environment.get('LD_LIBRARY_PATH', '')}"
    run = subprocess.run([sys.executable, __file__, "--one", *key, "-", str(folder)], capture_output=True, text=True, check=False,
                         env=environment)
    if run.returncode != 0:
        lines = (run.stderr or run.stdout).strip().splitlines()
        return {"python_text": lines[-1] if lines else f"exit status {run.returncode}"}
    return json.loads(run.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("-o", "--out", type=pathlib.Path)
    parser.add_argument("--log", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        python_side(options.folder, *options.one)
        return 0
    rows, status = [], 0
    if options.program == "-":
        rows = [{"artifact": artifact, "function": name} for artifact, name in CALLS if (options.folder / artifact).exists()]
    else:
        run = subprocess.run([options.program], capture_output=True, text=True, check=False,
                             env={**os.environ, "PEGA_TEST_ARTIFACTS": str(options.folder)})
        print(run.stdout + run.stderr, end="", flush=True)
        status = run.returncode
        rows = [json.loads(line[len("ROW "):]) for line in run.stdout.splitlines() if line.startswith("ROW ")]
    for row in rows:
        row.update(run_python_side(options.folder, row))
        print(json.dumps(row), flush=True)
    for line in (line for log in options.log if log.exists() for line in log.read_text().splitlines()):
        if not line.startswith("ROW "):
            continue
        told = json.loads(line[len("ROW "):])
        known = [row for row in rows if row["artifact"] == told["artifact"]]
        known[0].update(told) if known else rows.append(told)
    device = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                            capture_output=True, text=True, check=False).stdout.strip()
    evidence = {"device": device, "date": datetime.date.today().isoformat(),
                "commit": os.environ.get("PEGA_TEST_COMMIT", ""),
                "python": sys.version.split()[0], "rows": rows}
    if options.out:
        options.out.write_text(json.dumps(evidence, indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
