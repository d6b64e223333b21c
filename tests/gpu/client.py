# SPDX-License-Identifier: Apache-2.0
"""The solve from Python on a GPU: tvm_ffi with torch's CUDA tensors, streams and graphs.

The bridge, which PEGA_TEST_BRIDGE names, is loaded as any artifact is. Run by itself.
Ends with 77 and a line "SKIP: reason" where torch, tvm_ffi or a GPU is not to be had.
"""

import os
import sys

# Another interpreter than the project's (one with torch) borrows what it lacks from this folder.
sys.path.extend(filter(None, [os.environ.get("PEGA_TEST_SITE_PACKAGES")]))
try:
    import pytest
except ImportError as missing:
    print(f"SKIP: {sys.executable} has no pytest ({missing}): install it there, or name in "
          "PEGA_TORCH_PYTHON a Python that has torch and pytest")
    sys.exit(77)

SOLVE = "pegainfer.qwen35.gated_delta_rule_chunk_solve"
SOLVE_RAW = "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_solve"
SLEEP = 200_000_000  # cycles: about a tenth of a second, far longer than any solve


def why_not() -> str | None:
    """Why nothing here can run, or None."""
    try:
        import torch
        import tvm_ffi
    except ImportError as error:
        return f"this Python, {sys.version.split()[0]}, has not what is needed: {error}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if "PEGA_TEST_BRIDGE" not in os.environ:
        return "PEGA_TEST_BRIDGE does not name libpega_tvm_ffi.so"
    print(f"torch {torch.__version__}, tvm_ffi {tvm_ffi.__version__}, "
          f"python {sys.version.split()[0]}, {torch.cuda.get_device_name(0)}")
    return None


if __name__ != "__main__":  # pytest imports this file, once main() knows that it can
    import torch
    import tvm_ffi

    bridge = tvm_ffi.load_module(os.environ["PEGA_TEST_BRIDGE"])
    names = [str(name) for name in bridge["pega_register"]()]
    solve = tvm_ffi.get_global_func(SOLVE)
    solve_raw = tvm_ffi.get_global_func(SOLVE_RAW)


def make(tokens: int, heads: int, seed: int, gate: float = -0.1) -> "torch.Tensor":
    """Lower triangles as the layer before the solve makes them, NaN on and above the diagonal."""
    generator = torch.Generator("cuda").manual_seed(seed)
    options = {"generator": generator, "device": "cuda"}
    keys = torch.nn.functional.normalize(torch.randn(tokens, heads, 128, **options), dim=-1)
    keys = keys.bfloat16().double()
    beta = torch.rand(tokens, heads, **options).double()
    gates = gate * torch.rand(tokens, heads, **options).double()
    a_tril = torch.full((tokens, heads, 64), float("nan"), device="cuda")
    for begin in range(0, tokens, 64):
        rows = slice(begin, min(begin + 64, tokens))
        count = rows.stop - rows.start
        decay = gates[rows].cumsum(0).T
        a = torch.einsum("ihk,jhk->hij", keys[rows], keys[rows]) * beta[rows].T[:, :, None]
        a = a * torch.exp(decay[:, :, None] - decay[:, None, :])
        below = torch.ones(count, count, dtype=torch.bool, device="cuda").tril(-1)
        a_tril[rows, :, :count] = a.float().masked_fill(~below, float("nan")).permute(1, 0, 2)
    return a_tril


def poisoned(a_tril: "torch.Tensor") -> "torch.Tensor":
    return torch.full(a_tril.shape, float("nan"), dtype=torch.bfloat16, device="cuda")


def max_error(a_tril: "torch.Tensor", a_inv: "torch.Tensor") -> float:
    """Largest difference from torch's fp64 inverse, relative to its largest entry."""
    expected = torch.zeros(a_tril.shape, dtype=torch.float64)
    for begin in range(0, a_tril.shape[0], 64):
        rows = slice(begin, min(begin + 64, a_tril.shape[0]))
        count = rows.stop - rows.start
        chunk = a_tril[rows, :, :count].cpu().double().permute(1, 0, 2)
        below = torch.ones(count, count, dtype=torch.bool).tril(-1)
        lower = torch.where(below, chunk, 0.0) + torch.eye(count, dtype=torch.float64)
        expected[rows, :, :count] = torch.linalg.inv(lower).tril().permute(1, 0, 2)
    got = a_inv.cpu().double()
    assert not got.isnan().any()
    return float((got - expected).abs().max() / expected.abs().max())


def call_tensors(a_tril: "torch.Tensor", a_inv: "torch.Tensor") -> None:
    solve(a_tril, a_inv)


def call_pointers(a_tril: "torch.Tensor", a_inv: "torch.Tensor") -> None:
    tokens, heads, _ = a_tril.shape
    solve_raw(a_tril.data_ptr(), a_inv.data_ptr(), tokens, heads,
              torch.cuda.current_stream().cuda_stream)


FORMS = pytest.mark.parametrize("call", [call_tensors, call_pointers])


def test_registered():
    assert SOLVE in names and SOLVE_RAW in names


@FORMS
@pytest.mark.parametrize("gate", [-0.1, -10.0])
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 1000])
def test_numbers(call, tokens, gate):
    a_tril = make(tokens, 32, seed=tokens, gate=gate)
    a_inv = poisoned(a_tril)
    call(a_tril, a_inv)
    torch.cuda.synchronize()
    error = max_error(a_tril, a_inv)
    print(f"{call.__name__} T={tokens} g in [{gate}, 0]: max error {error:.1e}")
    assert error <= 1e-3


def test_refused():
    a_tril = make(64, 2, seed=1)
    with pytest.raises(TypeError, match="a_inv.*bfloat16"):
        solve(a_tril, a_tril)
    with pytest.raises(ValueError, match="a_inv"):
        solve(a_tril, poisoned(make(64, 3, seed=1)))
    with pytest.raises(ValueError, match="a_inv|a_tril"):
        solve(a_tril, poisoned(a_tril).cpu())
    with pytest.raises(ValueError, match="aligned"):
        solve_raw(a_tril.data_ptr() + 4, poisoned(a_tril).data_ptr(), 1, 1, 0)
    with pytest.raises(TypeError, match="num_value_heads|stream|arguments"):
        solve_raw(a_tril.data_ptr(), a_tril.data_ptr(), 1)


@FORMS
def test_current_stream(call):
    """Behind a sleep the stream brings the data: a solve on another stream sees the old one."""
    old, new = make(256, 8, seed=2), make(256, 8, seed=3)
    a_tril, a_inv = old.clone(), poisoned(old)
    call(a_tril, a_inv)  # prepared
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(SLEEP)
        a_tril.copy_(new)
        call(a_tril, a_inv)
        assert not side.query()  # the call did not wait
    side.synchronize()
    assert max_error(new, a_inv) <= 1e-3
    assert max_error(old, a_inv) > 1e-2

    # The control: told another stream, the solve does see the old data.
    a_tril.copy_(old)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(SLEEP)
        a_tril.copy_(new)
    other = torch.cuda.Stream()
    solve_raw(a_tril.data_ptr(), a_inv.data_ptr(), 256, 8, other.cuda_stream)
    torch.cuda.synchronize()
    assert max_error(old, a_inv) <= 1e-3


@FORMS
def test_graph(call):
    first, second = make(300, 8, seed=4), make(300, 8, seed=5, gate=-10.0)
    a_tril, a_inv = first.clone(), poisoned(first)
    call(a_tril, a_inv)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    a_inv.fill_(float("nan"))
    with torch.cuda.graph(graph):
        call(a_tril, a_inv)
    assert a_inv.isnan().all()  # captured, not run
    for data in (first, second):
        a_tril.copy_(data)
        a_inv.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        assert max_error(data, a_inv) <= 1e-3


def main() -> int:
    reason = why_not()
    if reason is not None:
        print(f"SKIP: {reason}")
        return 77
    return int(pytest.main(["-q", "-s", "-p", "no:cacheprovider", "--no-header", __file__]))


if __name__ == "__main__":
    sys.exit(main())
