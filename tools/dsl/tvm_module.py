# SPDX-License-Identifier: Apache-2.0
"""tvm_module.py -o FOLDER: compiles a CPU module with Apache TVM and exports it as FOLDER/cpu.so.

Run by `./dev artifacts tvm`. The module needs libtvm_ffi.so alone, no GPU and no libtvm_runtime.so, so that
a real compiler's artifact can be called wherever the tests run. FOLDER/cpu_parallel.so is one that does need
libtvm_runtime.so, whose threads its loop runs on: FOLDER/runtime has a link to it.
"""

import argparse
import os
import pathlib

import tvm
from tvm.script import ir as I
from tvm.script import tirx as T


@I.ir_module
class Serial:
    """Functions on float32 whose number of rows is known when they are called."""

    @T.prim_func(s_tir=True)
    def rms_norm(x_handle: T.handle, weight_handle: T.handle, epsilon: T.float32, out_handle: T.handle):
        """out[r, :] = x[r, :] * weight / sqrt(mean(x[r, :]^2) + epsilon)"""
        T.func_attr({"global_symbol": "rms_norm", "tirx.noalias": True})
        rows = T.int64()
        x = T.match_buffer(x_handle, (rows, 256), "float32")
        weight = T.match_buffer(weight_handle, (256,), "float32")
        out = T.match_buffer(out_handle, (rows, 256), "float32")
        for r in T.serial(rows):
            squares = T.alloc_buffer((1,), "float32")
            squares[0] = T.float32(0)
            for c in T.serial(256):
                squares[0] = squares[0] + x[r, c] * x[r, c]
            for c in T.serial(256):
                out[r, c] = x[r, c] * weight[c] / T.sqrt(squares[0] / T.float32(256) + epsilon)

    @T.prim_func(s_tir=True)
    def linear(x_handle: T.handle, weight_handle: T.handle, bias_handle: T.handle, out_handle: T.handle):
        """out[r, :] = x[r, :] @ weight + bias"""
        T.func_attr({"global_symbol": "linear", "tirx.noalias": True})
        rows, inner, columns = T.int64(), T.int64(), T.int64()
        x = T.match_buffer(x_handle, (rows, inner), "float32")
        weight = T.match_buffer(weight_handle, (inner, columns), "float32")
        bias = T.match_buffer(bias_handle, (columns,), "float32")
        out = T.match_buffer(out_handle, (rows, columns), "float32")
        for r in T.serial(rows):
            for c in T.serial(columns):
                out[r, c] = bias[c]
            for k in T.serial(inner):
                for c in T.serial(columns):
                    out[r, c] = out[r, c] + x[r, k] * weight[k, c]


@I.ir_module
class Parallel:
    @T.prim_func(s_tir=True)
    def scale(x_handle: T.handle, factor: T.float32, out_handle: T.handle):
        """out = x * factor"""
        T.func_attr({"global_symbol": "scale", "tirx.noalias": True})
        length = T.int64()
        x = T.match_buffer(x_handle, (length,), "float32")
        out = T.match_buffer(out_handle, (length,), "float32")
        for i in T.parallel(length):
            out[i] = x[i] * factor


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, module in (("cpu", Serial), ("cpu_parallel", Parallel)):
        path = out / f"{name}.so"
        tvm.compile(module, target="llvm").export_library(str(path))
        print(f"{path}: {path.stat().st_size} bytes, from Apache TVM {tvm.__version__}")
    runtime = out / "runtime"
    runtime.mkdir(exist_ok=True)
    place = runtime / "libtvm_runtime.so"
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.relpath(pathlib.Path(tvm.__file__).parent / "lib" / place.name, runtime.resolve()))


if __name__ == "__main__":
    main()
