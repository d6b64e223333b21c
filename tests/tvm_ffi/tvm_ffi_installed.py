# SPDX-License-Identifier: Apache-2.0
"""Python loads a bridge that was installed, and calls the same functions as in the build."""

import os

import numpy as np
import pytest
import tvm_ffi
from conversation import (
    PYTHON_CALLS,
    Bfloat16Tensor,
    bfloat16_to_float64,
    load,
    make_a_tril,
    say,
    solve_in_fp64,
)

SOLVE = "pegainfer.qwen35.gated_delta_rule_chunk_solve"
SOLVE_RAW = "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_solve"


def test_installed():
    names = load(with_engine=False)
    assert {SOLVE, SOLVE_RAW} <= set(names)
    say(PYTHON_CALLS, "names that the installed bridge registers, all pega's own",
        [name for name in names if not name.startswith("pegainfer.")], [])
    with open("/proc/self/maps") as maps:
        libraries = {line.split()[-1] for line in maps if "/libpega" in line}
    folder = os.path.realpath(os.path.dirname(os.environ["PEGA_TEST_BRIDGE"]))
    assert {os.path.dirname(library) for library in libraries} == {folder}

    a_tril = make_a_tril(200, heads=2)
    bits = np.zeros(a_tril.shape, np.uint16)
    solve = tvm_ffi.get_global_func(SOLVE)
    solve(tvm_ffi.from_dlpack(a_tril), tvm_ffi.from_dlpack(Bfloat16Tensor(bits)))
    expected = solve_in_fp64(a_tril)
    assert np.abs(bfloat16_to_float64(bits) - expected).max() < 1e-3 * np.abs(expected).max()

    with pytest.raises(TypeError, match="a_inv"):
        solve(tvm_ffi.from_dlpack(a_tril), 5)
