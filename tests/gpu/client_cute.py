# SPDX-License-Identifier: Apache-2.0
"""The indexer's CuTe DSL kernels on a GPU, in both modules: against fp64, and beside cuBLAS.

PEGA_TEST_CUTE names the folder of indexer_tvm_ffi.so and indexer_c.so. Run by itself. Ends with 77 and a
line "SKIP: reason" where torch, tvm_ffi, a GPU of compute capability 9.0 or the modules are not to be had.
"""

import ctypes
import os
import pathlib
import subprocess
import sys
import time

# Another interpreter than the project's (one with torch) borrows what it lacks from this folder.
sys.path.extend(filter(None, [os.environ.get("PEGA_TEST_SITE_PACKAGES")]))
try:
    import pytest
except ImportError as missing:
    print(f"SKIP: {sys.executable} has no pytest ({missing}): install it there, or name in "
          "PEGA_TORCH_PYTHON a Python that has torch and pytest")
    sys.exit(77)

HEADS, DIM = 8, 128
INVALID_VALUE = 1
USUAL = 12  # condition of scores, see check()
EDGE = 64  # floats around an output that must stay as they are
SIZES = [(1, 1), (1, 3), (3, 64), (64, 127), (127, 129), (129, 1000), (1000, 1), (37, 4100),
         (16, 128), (33, 130), (2, 8192)]
TIMED = [(4096, 8192), (1024, 8192), (4096, 1024), (64, 8192), (4096, 8191)]
SLEEP = 100_000_000  # cycles: about a twentieth of a second


def folder() -> pathlib.Path:
    return pathlib.Path(os.environ.get("PEGA_TEST_CUTE", ""))


def why_not() -> str | None:
    """Why nothing here can run, or None."""
    if "PEGA_TEST_CUTE" not in os.environ:
        return "PEGA_TEST_CUTE does not name the folder of the CuTe DSL modules"
    for name in ("indexer_tvm_ffi.so", "indexer_c.so"):
        if not (folder() / name).is_file():
            return f"{folder() / name} was not built (tools/dsl/cute.sh builds it)"
    try:
        import torch
        import tvm_ffi
    except ImportError as error:
        return f"this Python, {sys.version.split()[0]}, has not what is needed: {error}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if torch.cuda.get_device_capability() != (9, 0):
        return f"the kernels are for compute capability 9.0, not {torch.cuda.get_device_capability()}"
    print(f"torch {torch.__version__}, tvm_ffi {tvm_ffi.__version__}, "
          f"python {sys.version.split()[0]}, {torch.cuda.get_device_name(0)}")
    return None


class CFunction:
    """A function of indexer_c.so, called as that of the TVM FFI module is. Refusals are ValueErrors."""

    def __init__(self, library, symbol):
        self.function = getattr(library, symbol)
        self.function.restype = ctypes.c_int

    def raw(self, *arguments):
        *pointers, rows, columns, stream = arguments
        return self.function(*map(ctypes.c_void_p, pointers), ctypes.c_int32(rows),
                             ctypes.c_int32(columns), ctypes.c_void_p(stream))

    def __call__(self, q, kv, *rest):
        status = self.raw(*(tensor.data_ptr() for tensor in (q, kv, *rest)), q.shape[0], kv.shape[0],
                          torch.cuda.current_stream().cuda_stream)
        if status == INVALID_VALUE:
            raise ValueError("CUDA_ERROR_INVALID_VALUE")
        if status != 0:
            raise RuntimeError(f"CUresult {status}")


if __name__ != "__main__":  # pytest imports this file, once main() knows that it can
    import torch
    import tvm_ffi

    ffi_module = tvm_ffi.load_module(str(folder() / "indexer_tvm_ffi.so"))
    c_library = ctypes.CDLL(str(folder() / "indexer_c.so"))
    FUNCTIONS = {
        "tvm_ffi": (ffi_module["indexer_dots"], ffi_module["indexer_scores"]),
        "c": (CFunction(c_library, "deepseek_cutedsl_indexer_dots_bf16_cuda"),
              CFunction(c_library, "deepseek_cutedsl_indexer_scores_bf16_cuda")),
    }
    generator = torch.Generator("cuda")
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    generator.manual_seed(seed)


def draw(*shape, dtype=None):
    return torch.randn(*shape, device="cuda", generator=generator).to(dtype or torch.float32)


def make(t, c):
    return (draw(t, HEADS, DIM, dtype=torch.bfloat16), draw(c, DIM, dtype=torch.bfloat16),
            draw(t, HEADS))


def expected(q, kv, weights):
    dots = torch.einsum("thd,cd->thc", q.double(), kv.double())
    return dots, torch.einsum("thc,th->tc", torch.relu(dots), weights.double())


class Guarded:
    """An output of NaN between two edges of NaN."""

    def __init__(self, *shape):
        size = 1
        for extent in shape:
            size *= extent
        self.all = torch.full((size + 2 * EDGE,), float("nan"), device="cuda")
        self.view = self.all[EDGE:EDGE + size].view(shape)

    def check(self):
        assert self.all[:EDGE].isnan().all() and self.all[self.all.numel() - EDGE:].isnan().all()
        return self.view


def condition_of(q, kv, weights):
    """How much larger than the scores are the products in the dots that count, summed without signs."""
    dots, scores = expected(q, kv, weights)
    products = torch.einsum("thd,cd->thc", q.double().abs(), kv.double().abs()) * (dots > 0)
    return (torch.einsum("thc,th->tc", products, weights.double().abs()).norm() / scores.norm()).item()


def check(value, reference, condition=0):
    assert not value.isnan().any(), f"{int(value.isnan().sum())} of {value.numel()} were not written"
    error = ((value.double() - reference).norm() / reference.norm()).item() if value.numel() else 0
    # What float32 rounds is a part of the products. Of scores that are small because theirs cancel,
    # as one score alone may be by chance, it is more, by as much as their condition is above USUAL.
    assert error < 1e-6 * max(1, condition / USUAL), (error, condition)
    # Nothing is hidden in a norm over much: each element, by what its sum of products may lose.
    assert (value.double() - reference).abs().max().item() < 1e-3 if value.numel() else True


@pytest.mark.parametrize("kind", ["tvm_ffi", "c"])
@pytest.mark.parametrize("t,c", SIZES)
def test_dots(kind, t, c):
    q, kv, weights = make(t, c)
    out = Guarded(t, HEADS, c)
    FUNCTIONS[kind][0](q, kv, out.view)
    check(out.check(), expected(q, kv, weights)[0])


@pytest.mark.parametrize("kind", ["tvm_ffi", "c"])
@pytest.mark.parametrize("t,c", SIZES)
def test_scores(kind, t, c):
    q, kv, weights = make(t, c)
    out = Guarded(t, c)
    FUNCTIONS[kind][1](q, kv, weights, out.view)
    check(out.check(), expected(q, kv, weights)[1], condition_of(q, kv, weights))


@pytest.mark.parametrize("kind", ["tvm_ffi", "c"])
@pytest.mark.parametrize("t,c", [(0, 5), (5, 0), (0, 0)])
def test_nothing_to_do(kind, t, c):
    q, kv, weights = make(t, c)
    dots, scores = Guarded(t, HEADS, c), Guarded(t, c)
    FUNCTIONS[kind][0](q, kv, dots.view)
    FUNCTIONS[kind][1](q, kv, weights, scores.view)
    torch.cuda.synchronize()
    dots.check(), scores.check()


@pytest.mark.parametrize("kind", ["tvm_ffi", "c"])
def test_what_is_no_number_stays_none(kind):
    q, kv, weights = make(5, 70)
    q[2, 3, 7] = float("nan")
    kv[11, 0] = float("inf")
    dots, scores = Guarded(5, HEADS, 70), Guarded(5, 70)
    FUNCTIONS[kind][0](q, kv, dots.view)
    FUNCTIONS[kind][1](q, kv, weights, scores.view)
    want_dots, want_scores = expected(q, kv, weights)
    assert (dots.check().isnan() == want_dots.isnan()).all()
    assert (scores.check().isnan() == want_scores.isnan()).all()


@pytest.mark.parametrize("kind", ["tvm_ffi", "c"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_misaligned_is_refused(kind, which):
    t, c = 3, 64
    q, kv, _ = make(t, c)
    tensors = [q, kv, torch.full((t, HEADS, c), float("nan"), device="cuda")]
    odd = torch.empty(tensors[which].numel() + 1, dtype=tensors[which].dtype, device="cuda")[1:]
    odd = odd.view(tensors[which].shape).copy_(tensors[which])
    tensors[which] = odd
    with pytest.raises((ValueError, RuntimeError)) as refusal:
        FUNCTIONS[kind][0](*tensors)
    torch.cuda.synchronize()
    assert tensors[2].isnan().all()
    print(kind, which, refusal.value)


def test_c_refuses():
    t, c = 3, 64
    q, kv, weights = make(t, c)
    dots, scores = Guarded(t, HEADS, c), Guarded(t, c)
    good = [q.data_ptr(), kv.data_ptr(), dots.view.data_ptr()]
    for place in range(3):
        bad = list(good)
        bad[place] = 0
        assert FUNCTIONS["c"][0].raw(*bad, t, c, 0) == INVALID_VALUE
    for rows, columns in [(-1, c), (t, -1), (2**31 - 1, c), (t, 2**31 - 1), (-2**31, -2**31)]:
        assert FUNCTIONS["c"][0].raw(*good, rows, columns, 0) == INVALID_VALUE
        assert FUNCTIONS["c"][1].raw(q.data_ptr(), kv.data_ptr(), weights.data_ptr(),
                                     scores.view.data_ptr(), rows, columns, 0) == INVALID_VALUE
    torch.cuda.synchronize()
    assert dots.all.isnan().all() and scores.all.isnan().all()


def test_tvm_ffi_refuses():
    """Wrong shapes, types and devices, each with a text of its own."""
    q, kv, weights = make(3, 64)
    dots, scores = torch.empty(3, HEADS, 64, device="cuda"), torch.empty(3, 64, device="cuda")
    call, call_scores = FUNCTIONS["tvm_ffi"]
    for bad in [(q.float(), kv, dots), (q.cpu(), kv, dots), (q[:, :4], kv, dots), (q, kv[:, :64], dots),
                (q, kv[:63], dots), (q, kv, dots.half()), (q, kv, dots[:2]), (q, kv), (q, kv, None)]:
        with pytest.raises((ValueError, TypeError)) as refusal:
            call(*bad)
        print(str(refusal.value)[:150])
    with pytest.raises((ValueError, TypeError)):
        call_scores(q, kv, weights[:, :4], scores)


@pytest.mark.parametrize("kind", ["tvm_ffi", "c"])
def test_streams(kind):
    """The work is on the stream that is named: it waits for what was put there before."""
    q, kv, weights = make(64, 1000)
    source = q.clone()
    out = Guarded(64, HEADS, 1000)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        q.zero_()
        torch.cuda._sleep(SLEEP)
        q.copy_(source)
        FUNCTIONS[kind][0](q, kv, out.view)
    assert not stream.query()
    stream.synchronize()
    check(out.check(), expected(source, kv, weights)[0])


@pytest.mark.parametrize("kind", ["tvm_ffi", "c"])
def test_graph(kind):
    """Captured once, replayed on other inputs."""
    q, kv, weights = make(65, 1001)
    dots, scores = Guarded(65, HEADS, 1001), Guarded(65, 1001)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        FUNCTIONS[kind][0](q, kv, dots.view)
        FUNCTIONS[kind][1](q, kv, weights, scores.view)
    assert dots.all.isnan().all()
    for _ in range(2):
        for tensor, fresh in zip((q, kv, weights), make(65, 1001)):
            tensor.copy_(fresh)
        dots.view.fill_(float("nan")), scores.view.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        want = expected(q, kv, weights)
        check(dots.check(), want[0])
        check(scores.check(), want[1], condition_of(q, kv, weights))


FIRST_CALL = """
import ctypes, sys, threading, torch
library = ctypes.CDLL(sys.argv[1])
q = torch.ones(32, 8, 128, device="cuda", dtype=torch.bfloat16)
kv = torch.ones(96, 128, device="cuda", dtype=torch.bfloat16)
outs = [torch.full((32, 8, 96), float("nan"), device="cuda") for _ in range(8)]
torch.cuda.synchronize()
def call(out, stream=None):
    got = library.deepseek_cutedsl_indexer_dots_bf16_cuda(
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (q, kv, out)), 32, 96, ctypes.c_void_p(stream))
    if got != 0:
        print("CUresult", got)
if sys.argv[2] == "threads":
    threads = [threading.Thread(target=lambda out=out: (torch.cuda.set_device(0), call(out)))
               for out in outs]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
else:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for out in outs: call(out, torch.cuda.current_stream().cuda_stream)
    graph.replay()
torch.cuda.synchronize()
sys.exit(0 if all((out == 128).all() for out in outs) else 3)
"""


@pytest.mark.parametrize("how", ["threads", "graph"])
def test_first_call(how):
    """The first call of a process loads the kernels: in 8 threads at once, and inside a capture."""
    done = subprocess.run([sys.executable, "-c", FIRST_CALL, str(folder() / "indexer_c.so"), how],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stdout and not done.stderr, (done.stdout, done.stderr)


def time_of(call, number=10, rounds=5) -> float:
    """Microseconds of one call inside a graph of `number`: the median of `rounds` replays."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(number):
            call()
    graph.replay()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / number)
    return sorted(times)[rounds // 2]


def test_times(capsys):
    """Nothing is asserted of a time. cuBLAS makes the same dots: torch.mm of bfloat16 to float32."""
    lines = [f"{'t':>5} {'c':>5} {'dots us':>8} {'cuBLAS us':>9} {'rate':>5} {'TB/s':>5} "
             f"{'fill us':>8} {'scores us':>9} {'TFLOP/s':>7}"]
    for t, c in TIMED:
        q, kv, weights = make(t, c)
        dots, scores = torch.empty(t, HEADS, c, device="cuda"), torch.empty(t, c, device="cuda")
        flat, rows, columns = dots.view(-1, c), q.view(-1, DIM), kv.t()
        cublas = min(time_of(lambda: torch.ops.aten.mm.dtype_out(rows, columns, torch.float32, out=flat))
                     for _ in range(2))
        want = flat.clone()
        flat.fill_(float("nan"))
        ours = min(time_of(lambda: FUNCTIONS["tvm_ffi"][0](q, kv, dots)) for _ in range(2))
        assert torch.allclose(flat, want, rtol=1e-4, atol=1e-3)
        fill = time_of(lambda: dots.fill_(1))
        fused = min(time_of(lambda: FUNCTIONS["tvm_ffi"][1](q, kv, weights, scores)) for _ in range(2))
        lines.append(
            f"{t:5} {c:5} {ours:8.1f} {cublas:9.1f} {cublas / ours:4.2f}x {dots.nbytes / ours / 1e6:5.2f} "
            f"{fill:8.1f} {fused:9.1f} {2 * t * HEADS * c * DIM / fused / 1e6:7.0f}")
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def main() -> int:
    started = time.monotonic()
    reason = why_not()
    if reason is not None:
        print(f"SKIP: {reason}")
        return 77
    status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--tb=short", __file__, *sys.argv[1:]])
    print(f"{time.monotonic() - started:.1f} s")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
