# SPDX-License-Identifier: Apache-2.0
"""Golden cases: memory as docs/packs.md fills it, and what the reference expects of the outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .declare import Constant, Data, Fill, Function, Golden, Memory, Output, Uniform
from .dtypes import from_storage, is_float, storage, to_storage
from .errors import BuildError

_GAMMA = 0x9E3779B97F4A7C15


def splitmix64(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(count: int, fill: Uniform) -> np.ndarray:
    """`count` numbers of docs/packs.md's generator, in float64, not yet rounded to a dtype."""
    index = np.arange(1, count + 1, dtype=np.uint64)
    state = np.uint64(fill.seed & (2**64 - 1)) + index * np.uint64(_GAMMA)
    unit = (splitmix64(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return fill.low + (fill.high - fill.low) * unit


def fill_memory(memory: Memory | Output, where: str) -> np.ndarray:
    """The stored elements of an argument as they are before the launch."""
    kind = storage(memory.dtype, where)
    shape = tuple(memory.shape)
    count = math.prod(shape)
    fill = memory.fill
    if fill is None:
        return np.frombuffer(b"\xff" * (count * kind.itemsize), dtype=kind).reshape(shape)
    if isinstance(fill, Uniform):
        values = uniform(count, fill)
    elif isinstance(fill, Constant):
        values = np.full(count, fill.value)
    else:
        values = np.asarray(fill.array)
        if values.shape != shape:
            raise BuildError(
                f"{where}: the data has shape {list(values.shape)}, expected {list(shape)}"
            )
    return to_storage(np.ascontiguousarray(values).ravel(), memory.dtype, where).reshape(shape)


def _fill_entry(fill: Fill, stored: np.ndarray, add_blob) -> dict[str, Any] | None:
    if fill is None:
        return None
    if isinstance(fill, Uniform):
        return {
            "generator": "uniform",
            "seed": fill.seed,
            "low": float(fill.low),
            "high": float(fill.high),
        }
    if isinstance(fill, Constant):
        return {"generator": "constant", "value": float(fill.value)}
    assert isinstance(fill, Data)
    return {"blob": add_blob(stored.tobytes(), "data")}


def golden_entry(function: Function, golden: Golden, add_blob) -> dict[str, Any]:
    """The manifest's entry of a golden case; `add_blob(bytes, kind)` returns a name."""
    where = f"function '{function.name}', golden case '{golden.name}'"
    stored: dict[str, np.ndarray] = {}
    inputs: dict[str, Any] = {}
    for name, arg in golden.args.items():
        if isinstance(arg, (Memory, Output)):
            stored[name] = fill_memory(arg, f"{where}, '{name}'")
            inputs[name] = from_storage(stored[name], arg.dtype).copy()
        else:
            inputs[name] = arg
    outputs = {name: arg for name, arg in golden.args.items() if isinstance(arg, Output)}
    if not outputs:
        raise BuildError(f"{where}: nothing is compared: make an argument an Output")
    try:
        expected = dict(golden.reference(dict(inputs)))
    except Exception as error:  # the declaration's own code
        raise BuildError(
            f"{where}: the reference failed: {type(error).__name__}: {error}"
        ) from error
    if sorted(expected) != sorted(outputs):
        raise BuildError(
            f"{where}: the reference returned {sorted(expected)}, expected {sorted(outputs)}"
        )

    args: dict[str, Any] = {}
    for name, arg in golden.args.items():
        if not isinstance(arg, (Memory, Output)):
            args[name] = arg
            continue
        entry: dict[str, Any] = {"dtype": arg.dtype, "shape": list(arg.shape)}
        fill = _fill_entry(arg.fill, stored[name], add_blob)
        if fill is not None:
            entry["fill"] = fill
        if isinstance(arg, Output):
            entry["expect"] = {
                "blob": add_blob(
                    _expected_bytes(expected[name], arg, f"{where}, '{name}'"), "data"
                ),
                "atol": float(arg.atol),
                "rtol": float(arg.rtol),
            }
        args[name] = entry
    return {"name": golden.name, "args": args}


def _expected_bytes(values: Any, output: Output, where: str) -> bytes:
    values = np.asarray(values)
    if values.shape != tuple(output.shape):
        raise BuildError(
            f"{where}: the reference returned shape {list(values.shape)}, "
            f"expected {list(output.shape)}"
        )
    if is_float(output.dtype) and values.dtype not in (np.float64, np.int64):
        raise BuildError(f"{where}: the reference returned {values.dtype}, expected float64")
    return to_storage(values, output.dtype, where).tobytes()
