# SPDX-License-Identifier: Apache-2.0
"""The same artifact of Apache TVM, opened and called by Python's tvm_ffi: the same numbers, the same texts."""

import os
import pathlib
import subprocess

import numpy as np
import pytest
import tvm_ffi

ARTIFACT = pathlib.Path(os.environ["PEGA_TEST_ARTIFACTS"]) / "tvm/cpu.so"
ROWS, COLUMNS = 9, 256


@pytest.fixture(scope="module")
def from_c(tmp_path_factory):
    """What the C program says of the artifact: x, weight, result, and the text of an error."""
    path = tmp_path_factory.mktemp("dsl") / "out"
    run = subprocess.run([os.environ["PEGA_TEST_CALL"], path], capture_output=True, text=True, check=False)
    if run.returncode == 77:
        print(run.stdout, end="")
        pytest.exit("nothing to call", returncode=77)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = dict(line.split(": ", 1) for line in run.stdout.splitlines() if ": " in line)
    numbers = np.fromfile(path, np.float32)
    count = ROWS * COLUMNS
    return {
        "x": aligned(numbers[:count].reshape(ROWS, COLUMNS)),
        "weight": aligned(numbers[count : count + COLUMNS]),
        "out": numbers[count + COLUMNS :].reshape(ROWS, COLUMNS),
        "error": lines["error"],
        "host_ns": float(lines["host_ns"]),
    }


def aligned(array):
    """A copy whose data begin on 64 bytes, as the compiler wants them."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    out = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def test_same_numbers(from_c):
    module = tvm_ffi.load_module(str(ARTIFACT))
    out = aligned(np.zeros((ROWS, COLUMNS), np.float32))
    module.rms_norm(*map(tvm_ffi.from_dlpack, (from_c["x"], from_c["weight"])), 1e-6, tvm_ffi.from_dlpack(out))
    assert np.array_equal(out, from_c["out"])
    x = from_c["x"].astype(np.float64)
    right = x * from_c["weight"] / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
    assert np.abs(out - right).max() < 1e-5 * np.abs(right).max()
    print(f"\nrms_norm of {ROWS} rows: Python and C get the same bytes, {np.abs(out - right).max():.2g} from fp64")


def test_same_error(from_c):
    module = tvm_ffi.load_module(str(ARTIFACT))
    x = aligned(np.zeros((ROWS, COLUMNS), np.float64))
    out = aligned(np.zeros((ROWS, COLUMNS), np.float32))
    with pytest.raises(TypeError) as caught:
        module.rms_norm(*map(tvm_ffi.from_dlpack, (x, from_c["weight"])), 1e-6, tvm_ffi.from_dlpack(out))
    kind, text = from_c["error"].split(": ", 1)
    assert kind == "TypeError"
    # The C side's text says whose function it was; the compiler's own text is in both.
    assert str(caught.value).strip() in text or text in str(caught.value)
    print(f"both say: {text}")
