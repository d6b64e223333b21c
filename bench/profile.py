# SPDX-License-Identifier: Apache-2.0
"""The library's kernels under Nsight Compute, a case at a time, for the document of counters.

    PYTHON profile.py FOLDER OPTIONS             every case below: FOLDER/N.csv, and FOLDER/cases
    PYTHON profile.py --call PART key=value ...  one case, called three times: what ncu runs

OPTIONS are what tools/bench/counters.py --options prints; that program reads what is in FOLDER. PEGA_BENCH_BRIDGE names
libpega_tvm_ffi.so, PEGA_PACK_PATH the kernels. Needs torch and TVM FFI's Python. A case that fails is told and left out.
"""

import glob
import os
import pathlib
import shutil
import signal
import subprocess
import sys

SECONDS = 60  # for a case
CASES = [
    *(f"solve tokens={tokens} value_heads=32" for tokens in (512, 8192, 32768)),
    *(f"decode batch={batch} key_heads=16 value_heads=32" for batch in (1, 8, 64, 256)),
    *(
        f"prefill sequences={sequences} tokens={tokens} key_heads=16 value_heads=32"
        for sequences, tokens in ((1, 64), (1, 512), (1, 32768), (32, 512))
    ),
    "stages tokens=32768 key_heads=16 value_heads=32",
]
PREFIX = "pegainfer.qwen35.gated_delta_rule_"


# --- one case ---


class Case:
    """The sizes of a case, and tensors for it."""

    def __init__(self, torch, words):
        self.torch = torch
        self.sizes = {key: int(value) for key, value in (word.split("=") for word in words)}
        self.random = {"generator": torch.Generator("cuda").manual_seed(1), "device": "cuda"}

    def normal(self, *shape):
        return self.torch.randn(shape, **self.random).bfloat16()

    def unit(self, *shape):
        return self.torch.nn.functional.normalize(self.torch.randn(shape, **self.random), dim=-1).bfloat16()

    def uniform(self, *shape, low=0.0, high=1.0):
        return low + (high - low) * self.torch.rand(shape, **self.random)

    def empty(self, *shape, dtype="bfloat16"):
        return self.torch.empty(shape, dtype=getattr(self.torch, dtype), device="cuda")

    def inputs(self, tokens):
        hk, hv = self.sizes["key_heads"], self.sizes["value_heads"]
        q, k, v = self.unit(tokens, hk, 128), self.unit(tokens, hk, 128), self.normal(tokens, hv, 128)
        return q, k, v, self.uniform(tokens, hv, low=-0.1, high=0), self.uniform(tokens, hv)


def solve(case):
    tokens, hv = case.sizes["tokens"], case.sizes["value_heads"]
    return [("chunk_solve", [case.uniform(tokens, hv, 64, low=-0.1, high=0.1), case.empty(tokens, hv, 64)])]


def decode(case):
    batch, hv = case.sizes["batch"], case.sizes["value_heads"]
    q, k, v, g, beta = case.inputs(batch)
    states = case.uniform(batch, hv, 128, 128, low=-1)
    return [("decode", [q, k, v, g, beta, states, None, None, case.empty(batch, hv, 128)])]


def prefill(case):
    count, each, hv = case.sizes["sequences"], case.sizes["tokens"], case.sizes["value_heads"]
    q, k, v, g, beta = case.inputs(count * each)
    ends = case.torch.arange(0, count * each + 1, each, dtype=case.torch.int64, device="cuda")
    output, state = case.empty(count * each, hv, 128), case.empty(count, hv, 128, 128, dtype="float32")
    return [("prefill", [q, k, v, g, beta, None, ends if count > 1 else None, None, output, state])]


def stages(case):
    tokens, hk, hv = case.sizes["tokens"], case.sizes["key_heads"], case.sizes["value_heads"]
    rows = [case.empty(tokens, hv, 128) for _ in range(7)]
    q, k, v, w, u, new, output = rows
    g, beta, total = (case.empty(tokens, hv, dtype="float32") for _ in range(3))
    a, inverse = case.empty(tokens, hv, 64, dtype="float32"), case.empty(tokens, hv, 64)
    chunks = case.empty((tokens + 63) // 64, hv, 128, 128, dtype="float32")
    final = case.empty(hv, 128, 128, dtype="float32")
    width = (2 * hk + hv) * 128
    projections = [case.normal(tokens, width), case.normal(tokens, hv), case.normal(tokens, hv), case.normal(hv)]
    return [
        ("chunk_prepare", [*projections, case.uniform(hv), q, k, v, g, beta]),
        ("chunk_cumsum", [g, total]),
        ("chunk_a", [k, total, beta, a]),
        ("chunk_solve", [a, inverse]),
        ("chunk_recompute", [k, v, beta, w, u, inverse, total]),
        ("chunk_state", [k, w, u, total, None, chunks, new, final]),
        ("chunk_o", [q, k, new, chunks, total, output, None]),
    ]


def call(part, words):
    import torch
    import tvm_ffi

    bridge = tvm_ffi.load_module(os.environ["PEGA_BENCH_BRIDGE"])
    bridge["pega_register"]()
    makes = {"solve": solve, "decode": decode, "prefill": prefill, "stages": stages}
    calls = [(tvm_ffi.get_global_func(PREFIX + name), args) for name, args in makes[part](Case(torch, words))]
    profiler = torch.cuda.cudart()
    for rounds in (1, 3):  # the first prepares
        torch.cuda.synchronize()
        if rounds > 1:
            profiler.cudaProfilerStart()
        for _ in range(rounds):
            for function, args in calls:
                function(*args)
        torch.cuda.synchronize()
    profiler.cudaProfilerStop()


# --- every case ---


def find_ncu():
    places = ["/usr/local/cuda/bin/ncu", *sorted(glob.glob("/opt/nvidia/nsight-compute/*/ncu"))]
    return shutil.which("ncu") or next((place for place in places if os.access(place, os.X_OK)), None)


def run(command, file):
    """Its exit status, or what ended it. ncu leaves the program that it looks at where it alone is killed."""
    with subprocess.Popen(command, stdout=file, start_new_session=True) as process:
        try:
            return process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return f"more than {SECONDS} s"
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


def profile(folder, options):
    ncu = find_ncu()
    if ncu is None:
        return "profile.py: there is no ncu"
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    (folder / "cases").write_text("")
    for number, case in enumerate(CASES):
        output = folder / f"{number}.csv"
        program = [sys.executable, __file__, "--call", *case.split()]
        command = [ncu, *options.split(), "--profile-from-start", "off", *program]
        with output.open("w") as file:
            status = run(command, file)
        if status == 0:
            kept.append(f"{output.name} {case}\n")
            (folder / "cases").write_text("".join(kept))  # a run that is cut short leaves what it had
        else:
            print(f"{case}: {status}\n{output.read_text()[-1000:]}", file=sys.stderr)
    return None if kept else "profile.py: no case was measured"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("profile.py: ended"))  # by way of what it started
    if len(sys.argv) > 2 and sys.argv[1] == "--call":
        sys.exit(call(sys.argv[2], sys.argv[3:]))
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(profile(pathlib.Path(sys.argv[1]), sys.argv[2]))
