# SPDX-License-Identifier: Apache-2.0
"""The handwritten CUDA library as plain C, with no pega: RMS norm on torch's tensors against torch's own.

handwritten.py LIBRARY. Ends with 77 and a line "SKIP: reason" where torch or a GPU is not to be had.
"""

import ctypes
import sys


def skip(reason: str) -> None:
    print(f"SKIP: {reason}")
    sys.exit(77)


try:
    import torch
except ImportError as missing:
    skip(f"{sys.executable} has no torch ({missing})")
if not torch.cuda.is_available():
    skip("torch sees no CUDA device")
try:
    library = ctypes.CDLL(sys.argv[1])
except (IndexError, OSError) as missing:
    skip(f"the library is not there ({missing}): tools/dsl/build_handwritten.sh makes it")

POINTER, INT = ctypes.c_void_p, ctypes.c_int32
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def function(name: str):
    found = getattr(library, f"rms_norm_{name}_cuda")
    found.argtypes = [POINTER, POINTER, POINTER, INT, INT, ctypes.c_float, POINTER]
    return found


def norm(name: str, x: "torch.Tensor", weight: "torch.Tensor", y: "torch.Tensor") -> None:
    stream = torch.cuda.current_stream().cuda_stream
    code = function(name)(x.data_ptr(), weight.data_ptr(), y.data_ptr(), *x.shape, 1e-6, stream)
    assert code == 0, code


def microseconds(run, count: int = 200) -> float:
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(count):
            run()
    graph.replay()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    graph.replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1000 / count


def main() -> None:
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(0)}")
    generator = torch.Generator("cuda").manual_seed(1)
    for name, dtype in DTYPES.items():
        for rows, cols in ((1, 1), (5, 100), (1027, 128), (64, 4096), (7, 8191), (3, 65536)):
            x, weight = (
                torch.randn(shape, generator=generator, device="cuda").to(dtype)
                for shape in ((rows, cols), (cols,))
            )
            y = torch.empty_like(x)
            norm(name, x, weight, y)
            wide = x.double()
            expected = wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()
            ulp = torch.finfo(dtype).eps
            error = ((y.double() - expected).abs() / expected.abs().clamp(min=1e-2)).max().item()
            assert error <= max(0.52 * ulp, 1e-6), (name, rows, cols, error)
            peer = torch.nn.functional.rms_norm(x, (cols,), weight, 1e-6).double()
            assert (peer - expected).abs().max() < 0.1, (name, rows, cols)
        print(f"rms_norm {name}: rounds the formula in fp64 as it should")
    for rows, cols in ((1, 4096), (64, 4096), (4096, 4096), (16384, 8192)):
        x = torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16)
        weight, y = torch.ones_like(x[0]), torch.empty_like(x)
        ours = microseconds(lambda: norm("bf16", x, weight, y))
        theirs = microseconds(lambda: torch.nn.functional.rms_norm(x, (cols,), weight, 1e-6))
        rate = 2 * x.numel() * 2 / ours * 1e-3
        print(f"rms_norm bf16 [{rows}, {cols}]: {ours:.2f} us ({rate:.0f} GB/s), torch {theirs:.2f} us")


main()
