# SPDX-License-Identifier: Apache-2.0
"""A peer of `pega bench`: TVM FFI's C++ launcher, with the kernel that pega launches.

The launcher is a library of this project over TVM FFI's header, bench/launch_cubin_launcher.cc, which
makes its calls and takes their time itself: none of it is Python's. The kernel is the same, of the same pack: `pega
bench` tells of it. PEGA_CUBIN_LAUNCHER names the library where it is not in its place.
"""

import ctypes
import os
import pathlib
import sys

import _common as common

LIBRARY = "libbench_cubin_launcher.so"
PARAMETERS = [8, 8, 4, 4]  # bytes of a_tril, a_inv, tokens and heads; what is behind them is Triton's scratch


class Launcher(ctypes.Structure):
    """bench_cubin_launcher of bench/launch_cubin_launcher.h."""

    _fields_ = [
        ("open", ctypes.CFUNCTYPE(
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint),
            ctypes.POINTER(ctypes.c_uint), ctypes.c_uint, ctypes.c_int)),
        ("call", ctypes.c_void_p),
        ("time", ctypes.CFUNCTYPE(
            ctypes.c_double, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
            ctypes.c_int64, ctypes.c_void_p, ctypes.c_int)),
    ]


def library():
    here = pathlib.Path(__file__).resolve().parent
    named = os.environ.get("PEGA_CUBIN_LAUNCHER")
    # PREFIX/share/pega/bench/peers; in a folder of a build it is in bin.
    places = [here.parent / LIBRARY, *(folder / "bin" / LIBRARY for folder in here.parents[3:4])]
    for place in [pathlib.Path(named)] if named else places:
        if place.is_file():
            return place
    raise common.LeftOut(f"no {LIBRARY}: it is built where the CUDA toolkit and TVM FFI are")


class Clock(common.GpuClock):
    def host(self, way, samples):
        times = []
        for _ in range(samples):
            self.wait()
            times.append(way.time(self.batch) * 1e6)
        self.wait()
        return times


class CubinLauncher(common.Peer):
    name = "tvm-ffi cubin_launcher"
    parts = ("launch",)

    def open(self):
        self.torch = common.cuda_torch()
        path = library()
        import tvm_ffi  # which loads the library that the launcher needs

        get = ctypes.CDLL(str(path)).bench_cubin_launcher_get
        get.restype = ctypes.POINTER(Launcher)
        self.launcher = get().contents
        self.clock = Clock(self.torch, common.LAUNCHES)
        return tvm_ffi.__version__

    def ways(self, part, case):
        torch, told = self.torch, self.kernel
        if not told:
            raise common.LeftOut("pega bench tells of no kernel: it takes one from the file of a pack, --pack")
        sizes = told["params"]
        if sizes[:4] != PARAMETERS or len(sizes) > 6:
            raise common.LeftOut(f"the kernel has parameters of {sizes} bytes")
        tokens, heads = common.sizes(case, "tokens", "value_heads")
        a_tril = common.solve_data(torch, tokens, heads, "cuda")
        a_inv = torch.zeros_like(a_tril, dtype=torch.bfloat16)
        self.cubin = pathlib.Path(told["cubin"]).read_bytes()  # which the launcher may go on reading
        three = ctypes.c_uint * 3
        kernel = self.launcher.open(self.cubin, told["entry"].encode(), three(*told["grid"]),
                                    three(*told["block"]), told["shared"], told["early"])
        if not kernel:
            raise common.LeftOut("it does not load the kernel; it said why on standard error")

        def time(count):
            """Seconds of a call, of so many one after the other."""
            ns = self.launcher.time(
                kernel, a_tril.data_ptr(), a_inv.data_ptr(), tokens, heads,
                torch.cuda.current_stream().cuda_stream, count)
            if ns < 0:
                raise common.LeftOut("the launch fails")
            return ns * 1e-9

        def check():
            time(1)
            return common.judge_solve(torch, a_tril, a_inv)

        way = common.judged(check, [lambda: time(1)])
        way.time = time
        return {self.name: way}


if __name__ == "__main__":
    sys.exit(common.serve(CubinLauncher()))
