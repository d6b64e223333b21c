# SPDX-License-Identifier: Apache-2.0
"""pegainfer.cublas.gemm from Python on torch's CUDA tensors, beside torch.matmul: the same numbers, the stream
of torch, and what a call costs the host.

PEGA_TEST_BRIDGE names the bridge and PEGA_TEST_CUBLAS libpega_cublas. Run by itself. Ends with 77 and a line
"SKIP: reason" where torch, tvm_ffi or a GPU is not to be had.
"""

import ctypes
import os
import statistics
import sys
import time

# Another interpreter than the project's (one with torch) borrows what it lacks from this folder.
sys.path.extend(filter(None, [os.environ.get("PEGA_TEST_SITE_PACKAGES")]))


def why_not() -> str | None:
    """Why nothing here can run, or None."""
    try:
        import torch
        import tvm_ffi
    except ImportError as error:
        return f"this Python, {sys.version.split()[0]}, has not what is needed: {error}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    for name in ("PEGA_TEST_BRIDGE", "PEGA_TEST_CUBLAS"):
        if name not in os.environ:
            return f"{name} names no library"
    print(f"torch {torch.__version__}, tvm_ffi {tvm_ffi.__version__}, {torch.cuda.get_device_name(0)}")
    return None


def check_numbers(torch, gemm) -> None:
    worst = {}
    for dtype, bound in ((torch.bfloat16, 2e-2), (torch.float16, 2e-3), (torch.float32, 1e-5)):
        for m, n, k in ((64, 96, 128), (33, 17, 65), (1, 256, 512)):
            for form in range(4):
                ta, tb = bool(form & 1), bool(form & 2)
                a = torch.randn(*((k, m) if ta else (m, k)), device="cuda").to(dtype)
                b = torch.randn(*((n, k) if tb else (k, n)), device="cuda").to(dtype)
                c = torch.full((m, n), float("nan"), device="cuda", dtype=dtype)
                gemm(a, b, c, ta, tb)
                left, right = (a.T if ta else a).double(), (b.T if tb else b).double()
                expected = left @ right
                off = float((c.double() - expected).abs().max() / expected.abs().max())
                worst[dtype] = max(worst.get(dtype, 0.0), off)
                assert off <= bound, (dtype, m, n, k, form, off)
                # A view with its columns side by side is the transpose.
                c.fill_(float("nan"))
                gemm(a.T if ta else a, b.T if tb else b, c)
                assert float((c.double() - expected).abs().max() / expected.abs().max()) <= bound
        a = torch.randn(5, 8, 16, device="cuda").to(dtype)
        b = torch.randn(16, 24, device="cuda").to(dtype)
        c = torch.empty(5, 8, 24, device="cuda", dtype=torch.float32)
        gemm(a, b, c)
        expected = a.double() @ b.double()
        assert float((c.double() - expected).abs().max()) <= 1e-4
    print("largest error over the largest entry:", {str(d): f"{e:.1e}" for d, e in worst.items()})


def check_streams(torch, gemm) -> None:
    a, b = torch.randn(128, 128, device="cuda"), torch.randn(128, 128, device="cuda")
    c = torch.zeros(128, 128, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        gemm(a, b, c)  # the stream's workspace is made
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    c.zero_()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=side):
        gemm(a, b, c)
    torch.cuda.synchronize()
    assert not c.any()  # captured, not run
    graph.replay()
    torch.cuda.synchronize()
    assert torch.allclose(c, a @ b, rtol=1e-4, atol=1e-3)


def median_ns(torch, call) -> float:
    batches = []
    for batch in range(33):
        begin = time.perf_counter_ns()
        for _ in range(100):
            call()
        if batch >= 3:
            batches.append((time.perf_counter_ns() - begin) / 100)
        torch.cuda.synchronize()
    return statistics.median(batches)


def measure(torch, gemm) -> None:
    """Printed, not judged."""
    a, b = (torch.randn(64, 64, device="cuda").bfloat16() for _ in range(2))
    c = torch.empty(64, 64, device="cuda", dtype=torch.bfloat16)
    ours = median_ns(torch, lambda: gemm(a, b, c))
    theirs = median_ns(torch, lambda: torch.matmul(a, b, out=c))
    print(f'ROW {{"artifact": "cublas", "python_ns": {ours:.0f}}}')
    print(f"host ns per call from Python, bf16 64 x 64 x 64: gemm {ours:.0f}, torch.matmul {theirs:.0f}")


def main() -> int:
    reason = why_not()
    if reason is not None:
        print(f"SKIP: {reason}")
        return 77
    import torch
    import tvm_ffi

    torch.backends.cuda.matmul.allow_tf32 = False
    library = ctypes.CDLL(os.environ["PEGA_TEST_CUBLAS"])
    assert library.pega_cublas_register(0, None) == 0
    bridge = tvm_ffi.load_module(os.environ["PEGA_TEST_BRIDGE"])
    bridge["pega_register"]()
    gemm = tvm_ffi.get_global_func("pegainfer.cublas.gemm")
    torch.zeros(1, device="cuda")
    check_numbers(torch, gemm)
    check_streams(torch, gemm)
    measure(torch, gemm)
    print("OK")
    return 0


if __name__ == "__main__":
    sys.exit(main())
