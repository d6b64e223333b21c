# SPDX-License-Identifier: Apache-2.0
"""Exported modules from Python on a GPU: tvm_ffi.load_module with torch's CUDA tensors, streams and graphs.

PEGA_TEST_EXPORTED names a folder with what `pega export` made of the project's packs, qwen35.so and abi.so;
or PEGA_TEST_CLI and PEGA_TEST_KERNELS name the command and the packs' folder, and they are made here. No
library of the project is loaded. Ends with 77 and a line "SKIP: reason" where something is missing.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

PREFIX = "pegainfer.triton_cubin.qwen35.gated_delta_rule_"
SLEEP = 200_000_000  # cycles: about a tenth of a second, far longer than any of the kernels
CHUNK = 64


def find_modules() -> str | None:
    """The folder of the modules, or None."""
    folder = os.environ.get("PEGA_TEST_EXPORTED")
    if folder is not None:
        return folder
    cli, kernels = os.environ.get("PEGA_TEST_CLI"), os.environ.get("PEGA_TEST_KERNELS")
    if cli is None or kernels is None:
        return None
    folder = tempfile.mkdtemp(prefix="pega-exported-")
    for name in ("qwen35", "abi"):
        pack = f"{kernels}/{name}.pegapack"
        if os.path.exists(pack):
            subprocess.run([cli, "export", pack, "-o", f"{folder}/{name}.so"], check=True)
    return folder


def solve_input(tokens: int, heads: int, seed: int) -> "torch.Tensor":
    """Lower triangles of well-conditioned chunks, NaN on and above the diagonal."""
    generator = torch.Generator("cuda").manual_seed(seed)
    a_tril = torch.randn(tokens, heads, CHUNK, generator=generator, device="cuda") * 0.1
    row = torch.arange(tokens, device="cuda") % CHUNK
    above = torch.arange(CHUNK, device="cuda")[None, :] >= row[:, None]
    return a_tril.masked_fill(above[:, None, :], float("nan"))


def solve_error(a_tril: "torch.Tensor", a_inv: "torch.Tensor") -> float:
    """Largest difference from torch's fp64 inverse, relative to its largest entry."""
    worst = 0.0
    for begin in range(0, a_tril.shape[0], CHUNK):
        rows = slice(begin, min(begin + CHUNK, a_tril.shape[0]))
        count = rows.stop - rows.start
        chunk = a_tril[rows, :, :count].cpu().double().permute(1, 0, 2)
        below = torch.ones(count, count, dtype=torch.bool).tril(-1)
        expected = torch.linalg.inv(torch.where(below, chunk, 0.0) +
                                    torch.eye(count, dtype=torch.float64)).tril()
        got = a_inv[rows, :, :count].cpu().double().permute(1, 0, 2)
        assert not got.isnan().any()
        worst = max(worst, float((got - expected).abs().max() / expected.abs().max()))
    return worst


def poisoned(like: "torch.Tensor", dtype) -> "torch.Tensor":
    return torch.full(like.shape, float("nan"), dtype=dtype, device="cuda")


def expect_error(kind, text, function, *args):
    try:
        function(*args)
    except kind as error:
        assert re.search(text, str(error)), str(error)
        print(f"  {kind.__name__}: {str(error)[:150]}")
        return
    raise AssertionError(f"expected {kind.__name__}: {text}")


def test_solve():
    for tokens in (1, 64, 1000):
        a_tril = solve_input(tokens, 32, seed=tokens)
        a_inv = poisoned(a_tril, torch.bfloat16)
        solve(a_tril, a_inv, tokens, 32)
        error = solve_error(a_tril, a_inv)
        print(f"  T={tokens}: max error {error:.1e}")
        assert error <= 5e-3
        again = poisoned(a_tril, torch.bfloat16)
        solve(a_tril.data_ptr(), again.data_ptr(), tokens, 32,
              torch.cuda.current_stream().cuda_stream)
        assert torch.equal(again, a_inv)


def test_cumsum():
    cumsum = qwen35[PREFIX + "chunk_cumsum"]
    gates = -torch.rand(1000, 32, device="cuda")
    sums = poisoned(gates, torch.float32)
    cumsum(gates, sums, 1000, 32)
    expected = torch.cat([part.double().cumsum(0) for part in gates.split(CHUNK)])
    error = float((sums.double() - expected).abs().max())
    print(f"  max error {error:.1e}")
    assert error <= 1e-4


def test_normalize():
    normalize = qwen35[PREFIX + "prefill_normalize"]
    q, k = (torch.randn(500, 16, 128, device="cuda").bfloat16() for _ in range(2))
    q_out, k_out = (poisoned(q, torch.bfloat16) for _ in range(2))
    normalize(q, k, q_out, k_out, 500, 16)
    for given, got in ((q, q_out), (k, k_out)):
        expected = torch.nn.functional.normalize(given.double(), dim=-1)
        error = float((got.double() - expected).abs().max())
        print(f"  max error {error:.1e}")
        assert error <= 4e-3


def test_tensor_maps():
    a, b = (torch.randn(rows, 512, device="cuda").half() for rows in (64, 128))
    c = torch.full((64, 128), float("nan"), device="cuda")
    abi["abi.warp_specialised"](a, b, c)
    error = float((c.double() - a.double() @ b.double().T).abs().max())
    print(f"  max error {error:.1e}")
    assert error <= 1e-2


def test_current_stream():
    """The solve comes after what torch's current stream has to do, and nothing else waits for it."""
    good = solve_input(256, 32, seed=9)
    a_tril = torch.full_like(good, float("nan"))
    a_inv = poisoned(good, torch.bfloat16)
    solve(good, a_inv, 256, 32)
    expected = a_inv.clone()
    a_inv.fill_(float("nan"))
    # What torch itself launches below is loaded first: loading waits for the device.
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(1)
        a_tril.copy_(torch.full_like(good, float("nan")))
    assert torch.ones(8, device="cuda").sum().item() == 8
    torch.cuda.synchronize()
    begin = time.perf_counter()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(SLEEP)
        a_tril.copy_(good)
        solve(a_tril, a_inv, 256, 32)
    asynchronous = time.perf_counter() - begin
    default = torch.ones(8, device="cuda").sum().item()  # the default stream is free
    finished = stream.query()
    stream.synchronize()
    print(f"  given back after {asynchronous * 1e6:.0f} us, {'done' if finished else 'not done'} then")
    assert default == 8 and not finished
    assert torch.equal(a_inv, expected)


def test_graph():
    first, second = solve_input(128, 32, seed=1), solve_input(128, 32, seed=2)
    a_tril = first.clone()
    a_inv = poisoned(first, torch.bfloat16)
    solve(a_tril, a_inv, 128, 32)  # loads it
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        solve(a_tril, a_inv, 128, 32)
        # What was never called is refused, and the capture goes on.
        address = a_tril.data_ptr()
        expect_error(RuntimeError, "call it once before the capture", qwen35[PREFIX + "chunk_a"],
                     address, address, address, address, 64, 1,
                     torch.cuda.current_stream().cuda_stream)
    for given in (first, second):
        a_tril.copy_(given)
        a_inv.fill_(float("nan"))
        graph.replay()
        error = solve_error(given, a_inv)
        print(f"  replayed: max error {error:.1e}")
        assert error <= 5e-3


def test_refused():
    a_tril = solve_input(64, 2, seed=3)
    a_inv = poisoned(a_tril, torch.bfloat16)
    expect_error(TypeError, r"expected 4 to 5 arguments, got 2; call it as", solve, a_tril, a_inv)
    expect_error(TypeError, "argument 2 'seq_len': expected int, got float", solve, a_tril, a_inv, 1.5, 2)
    expect_error(ValueError, "'num_value_heads': expected a value from 0 to 524288, got int -1", solve,
                 a_tril, a_inv, 64, -1)
    expect_error(ValueError, "argument 0 'a_tril_ptr': expected memory of a cuda device, got a tensor on cpu",
                 solve, a_tril.cpu(), a_inv, 64, 2)
    expect_error(ValueError, "argument 0 'a_tril_ptr': expected a pointer or a contiguous tensor", solve,
                 a_tril.transpose(0, 1), a_inv, 64, 2)
    expect_error(ValueError, "argument 1 'a_inv_ptr': expected an address aligned to 16 bytes", solve,
                 a_tril, a_inv.view(-1)[1:], 64, 2)
    expect_error(TypeError, r"'a_inv_ptr': expected a tensor of bfloat16 \[seq_len, num_value_heads, 64\]",
                 solve, a_tril, a_tril, 64, 2)
    expect_error(ValueError, "which is 8320 elements, got 8192", solve, a_tril, a_inv, 65, 2)
    half = torch.zeros(64, 512, device="cuda", dtype=torch.float16)
    expect_error(ValueError, r"argument 1 'b': expected shape \(128, K\), got \(64, 512\)",
                 abi["abi.warp_specialised"], half, half, half)
    expect_error(TypeError, "argument 0 'a': expected dtype float16, got float32",
                 abi["abi.warp_specialised"], half.float(), half, half)


def measure(what: str, function, *args):
    """Median host ns per call; the queue of launches is emptied between batches."""
    times = []
    for _ in range(40):
        torch.cuda.synchronize()
        begin = time.perf_counter_ns()
        for _ in range(400):
            function(*args)
        times.append((time.perf_counter_ns() - begin) / 400)
    print(f"  {what}: {statistics.median(times):.0f} ns per call (least {min(times):.0f})")


def test_time_of_calls():
    a_tril = solve_input(64, 1, seed=4)
    a_inv = poisoned(a_tril, torch.bfloat16)
    stream = torch.cuda.current_stream().cuda_stream
    measure("solve, torch tensors", solve, a_tril, a_inv, 64, 1)
    measure("solve, addresses and a stream", solve, a_tril.data_ptr(), a_inv.data_ptr(), 64, 1, stream)
    c = torch.zeros(64, 128, device="cuda")
    a, b = (torch.zeros(rows, 64, device="cuda", dtype=torch.float16) for rows in (64, 128))
    measure("three tensors, two tensor maps", abi["abi.warp_specialised"], a, b, c)
    measure("torch: an addition in place, for comparison", c.add_, 1.0)


def main() -> int:
    failed = 0
    names = [name for name in globals() if name.startswith("test_")]
    for name in names:
        print(f"{name}", flush=True)
        try:
            globals()[name]()
        except Exception as error:  # pylint: disable=broad-exception-caught (the next ones still run)
            import traceback
            traceback.print_exc()
            print(f"FAILED {name}: {error!r}"[:500], flush=True)
            failed += 1
    print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        import torch
        import tvm_ffi
    except ImportError as missing:
        print(f"SKIP: this Python, {sys.version.split()[0]}, has not what is needed: {missing}")
        sys.exit(77)
    if not torch.cuda.is_available():
        print("SKIP: torch sees no CUDA device")
        sys.exit(77)
    modules = find_modules()
    if modules is None or not os.path.exists(f"{modules}/qwen35.so"):
        print("SKIP: no exported modules: PEGA_TEST_EXPORTED or PEGA_TEST_CLI and PEGA_TEST_KERNELS say where")
        sys.exit(77)
    print(f"torch {torch.__version__}, tvm_ffi {tvm_ffi.__version__}, python {sys.version.split()[0]}, "
          f"{torch.cuda.get_device_name(0)}")
    qwen35 = tvm_ffi.load_module(f"{modules}/qwen35.so")
    abi = tvm_ffi.load_module(f"{modules}/abi.so")
    solve = qwen35[PREFIX + "chunk_solve"]
    sys.exit(main())
