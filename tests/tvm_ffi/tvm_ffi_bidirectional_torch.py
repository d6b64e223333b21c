# SPDX-License-Identifier: Apache-2.0
"""The conversation with torch's CPU tensors, bf16 among them."""

import numpy as np
import pytest
import torch
import tvm_ffi
from conversation import ENGINE_CALLS, PYTHON_CALLS, load, make_a_tril, say

load()


def engine(name):
    return tvm_ffi.get_global_func(f"engine.{name}")


def test_tensors_without_copy():
    x = torch.arange(4, dtype=torch.float32)
    y = torch.zeros(4)
    engine("scale")(x, y, 2.0)
    say(PYTHON_CALLS, "engine.scale(torch's [0, 1, 2, 3], by 2)", y.tolist(), [0, 2, 4, 6])


def test_tensor_made_by_the_engine():
    tensor = torch.from_dlpack(engine("make_tensor")(3))
    say(PYTHON_CALLS, "engine.make_tensor(3) as torch's", tensor.tolist(), [0, 1, 2])


def test_callback():
    x = torch.ones(3)
    engine("apply")(lambda t: torch.from_dlpack(t).mul_(3), x)
    say(ENGINE_CALLS, "a function on torch's memory", x.tolist(), [3, 3, 3])


def test_strides_are_checked():
    x = torch.zeros(8)[::2]
    with pytest.raises(ValueError, match="engine.scale.*'x'"):
        engine("scale")(x, torch.zeros(4), 1.0)


@pytest.mark.parametrize("tokens", [65, 1000])
def test_solve(tokens):
    a_tril = torch.from_numpy(make_a_tril(tokens, heads=4))
    a_inv = torch.full(a_tril.shape, float("nan"), dtype=torch.bfloat16)
    tvm_ffi.get_global_func("pegainfer.qwen35.gated_delta_rule_chunk_solve")(a_tril, a_inv)
    worst = 0.0
    for begin in range(0, tokens, 64):
        count = min(64, tokens - begin)
        chunk = a_tril[begin : begin + count, :, :count].double().permute(1, 0, 2)
        lower = torch.tril(chunk, -1) + torch.eye(count, dtype=torch.float64)
        expected = torch.linalg.solve_triangular(
            lower, torch.eye(count, dtype=torch.float64).expand_as(lower), upper=False)
        got = a_inv[begin : begin + count, :, :count].double().permute(1, 0, 2)
        worst = max(worst, float((got - expected).abs().max() / expected.abs().max()))
    print(f"{PYTHON_CALLS}  the solve on torch's tensors at T={tokens}: max error {worst:.1e}")
    assert worst < 1e-3
    assert np.isfinite(a_inv.float().numpy()).all()
