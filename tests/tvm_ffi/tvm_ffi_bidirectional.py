# SPDX-License-Identifier: Apache-2.0
"""The conversation in both directions, held by Python's tvm_ffi with numpy's arrays.

Python loads the bridge as any artifact, has pega's functions registered and calls them; the engine
(engine_fixture.c, plain C) calls Python back. Errors cross both ways as what they are.
"""

import gc
import json
import os
import weakref

import numpy as np
import pytest
import tvm_ffi
from conversation import (
    ENGINE_CALLS,
    PYTHON_CALLS,
    Bfloat16Tensor,
    bfloat16_to_float64,
    load,
    make_a_tril,
    say,
    solve_in_fp64,
)

NAMES = load()
SOLVE = "pegainfer.qwen35.gated_delta_rule_chunk_solve"
SOLVE_RAW = "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_solve"


def engine(name):
    return tvm_ffi.get_global_func(f"engine.{name}")


# ---- Python calls the engine ----


def test_register_tells_the_names():
    assert SOLVE in NAMES and SOLVE_RAW in NAMES and "engine.add" in NAMES
    assert NAMES == sorted(NAMES)


def test_functions_of_the_module():
    bridge = tvm_ffi.load_module(os.environ["PEGA_TEST_BRIDGE"])
    assert bridge["pega_get"]("engine.add")(40, 2) == 42
    for name in ("engine.add\0zzz", "\0", 7, None):
        with pytest.raises(TypeError, match="pega_get: expected the name"):
            bridge["pega_get"](name)
    with pytest.raises(TypeError, match="pega_get"):
        bridge["pega_get"]()
    assert bridge["pega_version"]().count(".") == 2
    with pytest.raises(TypeError, match="pega_version: expected no argument, got 1"):
        bridge["pega_version"](1)


def test_numbers():
    say(PYTHON_CALLS, "engine.add(40, 2)", engine("add")(40, 2), 42)


def test_numpy_tensors_without_copy():
    x = np.arange(6, dtype=np.float32)[::1]
    y = np.zeros(6, np.float32)
    engine("scale")(tvm_ffi.from_dlpack(x), tvm_ffi.from_dlpack(y), 2.5)
    say(PYTHON_CALLS, "engine.scale([0, 1, 2, 3, 4, 5], by 2.5)", y.tolist(),
        [0, 2.5, 5, 7.5, 10, 12.5])


def test_every_kind_there():
    text = engine("describe")(None, True, -3, 0.5, "short", "a text of some length", b"bytes",
                              tvm_ffi.device("cuda", 1), tvm_ffi.dtype("bfloat16"), [1, 2],
                              {"key": 3}, engine("add"))
    print(f"{PYTHON_CALLS}  engine.describe(...) = {text}")
    for part in ("none", "bool true", "int -3", "float 0.5", 'string "short"',
                 'string "a text of some length"', "bytes", "cuda:1", "bfloat16", "array", "map",
                 "function"):
        assert part in text.lower()


@pytest.mark.parametrize("value", [None, True, False, 0, -1, 2**63 - 1, 0.5, "", "short",
                                   "a text of some length, zwölf", b"", b"a\0b", [1, "two", [3]],
                                   {"key": [1]}], ids=repr)
def test_every_kind_back(value):
    got = engine("echo")(value)
    if isinstance(value, list):
        got = [list(item) if isinstance(item, tvm_ffi.Array) else item for item in got]
    elif isinstance(value, dict):
        got = {key: list(item) for key, item in got.items()}
    assert got == value and isinstance(got, type(value))


def test_integers_beyond_int64():
    try:
        got = engine("echo")(2**63)
    except OverflowError:
        return  # this Python client has no big integers: nothing reached the engine
    assert got == 2**63


def test_tensor_made_by_the_engine():
    before = engine("live_tensors")()
    tensor = engine("make_tensor")(4)
    array = np.from_dlpack(tensor)
    say(PYTHON_CALLS, "engine.make_tensor(4)", array.tolist(), [0, 1, 2, 3])
    assert engine("live_tensors")() == before + 1
    del tensor
    gc.collect()
    assert engine("live_tensors")() == before + 1  # numpy still holds it
    del array
    gc.collect()
    assert engine("live_tensors")() == before


def test_function_made_by_the_engine():
    before = engine("live_adders")()
    adder = engine("make_adder")(40)
    say(PYTHON_CALLS, "engine.make_adder(40)(2)", adder(2), 42)
    assert engine("live_adders")() == before + 1
    del adder
    gc.collect()
    assert engine("live_adders")() == before


# ---- the engine calls Python ----


def test_python_callback():
    say(ENGINE_CALLS, "a lambda, from engine.apply", engine("apply")(lambda a, b: a * b, 6, 7), 42)
    say(ENGINE_CALLS, "the same on a thread", engine("apply_on_thread")(lambda a: a + 1, 41), 42)


def test_python_global():
    @tvm_ffi.register_global_func("client.join")
    def join(*words):
        return " ".join(words)

    say(ENGINE_CALLS, "the global client.join, by name",
        engine("call_global")("client.join", "called", "from", "C"), "called from C")
    tvm_ffi.remove_global_func("client.join")
    with pytest.raises(KeyError, match="client.join"):
        engine("call_global")("client.join")


def test_python_callback_on_tensors():
    def double(x):
        np.from_dlpack(x)[:] *= 2

    x = np.ones(3, np.float32)
    engine("apply")(double, tvm_ffi.from_dlpack(x))
    say(ENGINE_CALLS, "a function on numpy's memory", x.tolist(), [2, 2, 2])


def test_kept_callback_is_let_go():
    class Callback:
        def __call__(self):
            return "still here"

    gone = []

    def keep():
        callback = Callback()
        weakref.finalize(callback, gone.append, True)
        engine("hold")(callback.__call__)

    keep()
    gc.collect()
    assert not gone
    assert engine("get_held")()() == "still here"
    gc.collect()
    engine("release_held_on_thread")()
    gc.collect()
    assert gone == [True]


# ---- errors ----


@pytest.mark.parametrize("kind", [ValueError, TypeError, KeyError, IndexError, RuntimeError,
                                  MemoryError, AttributeError, AssertionError])
def test_engine_errors_are_python_exceptions(kind):
    with pytest.raises(kind, match="what went wrong") as caught:
        engine("fail")(kind.__name__, "what went wrong")
    assert type(caught.value) is kind
    print(f"{PYTHON_CALLS}  engine.fail(...) raises {caught.value!r}")


def test_wrong_arguments():
    with pytest.raises(TypeError, match="engine.add.*'b'.*int.*string"):
        engine("add")(1, "2")
    with pytest.raises(TypeError, match="engine.add.*2.*3"):
        engine("add")(1, 2, 3)
    with pytest.raises(ValueError, match="engine.make_tensor.*'n'.*-1"):
        engine("make_tensor")(-1)
    with pytest.raises(TypeError, match="engine.scale.*'y'.*float32.*float64"):
        engine("scale")(tvm_ffi.from_dlpack(np.zeros(3, np.float32)),
                        tvm_ffi.from_dlpack(np.zeros(3, np.float64)), 1.0)
    with pytest.raises(ValueError, match="engine.scale.*'y'.*4"):
        engine("scale")(tvm_ffi.from_dlpack(np.zeros(3, np.float32)),
                        tvm_ffi.from_dlpack(np.zeros(4, np.float32)), 1.0)


def test_silent_failure():
    with pytest.raises(Exception, match="engine.fail_silently"):
        engine("fail_silently")()


def test_cause():
    with pytest.raises(RuntimeError, match="the cache cannot grow") as caught:
        engine("fail_caused")()
    print(f"{PYTHON_CALLS}  engine.fail_caused() raises {caught.value!r}")
    # This client shows no causes: what else crossed, TVM FFI code in C tells.
    fixture = tvm_ffi.load_module(os.environ["PEGA_TEST_FIXTURE"])
    texts = [str(text) for text in fixture["catch"](engine("fail_caused"))]
    assert texts[:2] == ["RuntimeError", "the cache cannot grow"]
    print(f"{PYTHON_CALLS}  its cause is {texts[3:]}")
    assert texts[3:] == ["OSError", "the disk is full"]


def test_python_exception_passes_through_the_engine():
    def refuse(number):
        raise IndexError(f"no item {number}")

    with pytest.raises(IndexError, match="no item 7") as caught:
        engine("apply")(refuse, 7)
    frames = [entry.name for entry in caught.traceback]
    print(f"{ENGINE_CALLS}  a callback raises {caught.value!r}, in {frames[-1]}")
    assert "refuse" in frames and "engine.apply" in frames

    with pytest.raises(RuntimeError, match="the engine's step failed"):
        engine("wrap")(refuse, 7)


def test_two_deep():
    with pytest.raises(KeyError, match="sequence 12"):
        engine("apply")(lambda: engine("apply")(engine("fail"), "KeyError", "sequence 12"))


# ---- the first kernel function ----


@pytest.mark.parametrize("tokens", [1, 63, 65, 128, 1000])
def test_solve(tokens):
    a_tril = make_a_tril(tokens, heads=4)
    bits = np.full(a_tril.shape, 0x7FC0, np.uint16)  # NaN: whatever is not written shows
    solve = tvm_ffi.get_global_func(SOLVE)
    solve(tvm_ffi.from_dlpack(a_tril), tvm_ffi.from_dlpack(Bfloat16Tensor(bits)))
    expected = solve_in_fp64(a_tril)
    error = np.abs(bfloat16_to_float64(bits) - expected).max() / np.abs(expected).max()
    print(f"{PYTHON_CALLS}  the solve at T={tokens}: max error {error:.1e}")
    assert error < 1e-3
    gc.collect()
    assert not Bfloat16Tensor.alive  # the bridge kept nothing of it


def test_solve_refuses():
    solve = tvm_ffi.get_global_func(SOLVE)
    a_tril = tvm_ffi.from_dlpack(np.zeros((64, 2, 64), np.float32))
    with pytest.raises(TypeError, match="a_inv.*bfloat16.*float32"):
        solve(a_tril, a_tril)
    other = Bfloat16Tensor(np.zeros((64, 3, 64), np.uint16))
    with pytest.raises(ValueError, match="a_inv"):
        solve(a_tril, tvm_ffi.from_dlpack(other))


def test_metadata_is_readable():
    metadata = json.loads(tvm_ffi.get_global_func("ffi.GetGlobalFuncMetadata")(SOLVE))
    print(f"{PYTHON_CALLS}  {metadata['pega_signature']}")
    assert [parameter["name"] for parameter in metadata["pega_params"]] == ["a_tril", "a_inv"]
