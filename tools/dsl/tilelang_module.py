# SPDX-License-Identifier: Apache-2.0
"""tilelang_module.py -o FOLDER: compiles kernels/tilelang with TileLang into shared libraries, no GPU needed.

Run by `./dev artifacts tilelang`, which sets CUDA_HOME to the pinned nvcc. FOLDER/NAME.so needs
libtvm_runtime.so of the TileLang that made it, which in turn needs the libraries beside it and a
libtvm_ffi.so of its time: FOLDER/runtime gets links to all of them.
"""

import argparse
import hashlib
import itertools
import os
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build/dsl/tilelang-work"
# Compiled anew each time: its own cache would hide a change of nvcc.
os.environ["TILELANG_DISABLE_CACHE"] = "1"
os.environ.setdefault("TILELANG_CACHE_DIR", str(WORK / "cache"))

import tilelang  # noqa: E402
import tvm_ffi  # noqa: E402

sys.path.insert(0, str(ROOT / "kernels/tilelang"))
import rms_norm  # noqa: E402

TARGET = {"kind": "cuda", "arch": "sm_90"}
KERNELS = {
    "rms_norm_bf16": lambda: rms_norm.rms_norm("bfloat16", 4096),
    "rms_norm_fp16": lambda: rms_norm.rms_norm("float16", 4096),
}


def same_folders():
    """Folders for intermediate files get names that are the same each time: nvcc puts a digest of its
    source's path into the names of symbols, and the linker keeps the path. What still differs from one time to
    the next is the time at which the source was written, in the line information."""
    numbers = itertools.count()
    shutil.rmtree(WORK, ignore_errors=True)

    def mkdtemp(suffix=None, prefix=None, dir=None):
        folder = WORK / str(next(numbers))
        folder.mkdir(parents=True)
        return str(folder)

    tempfile.mkdtemp = mkdtemp


def link(path, folder):
    place = folder / path.name
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.relpath(path, folder))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    same_folders()
    for name, make in KERNELS.items():
        kernel = tilelang.compile(make(), target=TARGET, execution_backend="tvm_ffi")
        path = out / f"{name}.so"
        kernel.export_library(str(path))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        print(f"{path}: {path.stat().st_size} bytes, from TileLang {tilelang.__version__}, sha256 {digest}")

    runtime = out / "runtime"
    runtime.mkdir(exist_ok=True)
    libraries = pathlib.Path(tilelang.__file__).parent / "lib"
    for path in [libraries / "libtvm_runtime.so", *sorted(libraries.glob("libstub_*.so"))]:
        link(path, runtime)
    link(pathlib.Path(tvm_ffi.libinfo.find_libtvm_ffi()), runtime)


if __name__ == "__main__":
    main()
