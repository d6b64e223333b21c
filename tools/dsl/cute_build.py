# SPDX-License-Identifier: Apache-2.0
"""Compiles kernels/cute into objects, with no GPU: `cute_build.py OUT_DIR`.

Needs a Python with nvidia-cutlass-dsl and apache-tvm-ffi (tools/python/cute.txt). Every function is
exported twice: <name>_tvm_ffi.o is what a TVM FFI module is linked of, <name>_c.o has CuTe DSL's plain C
interface. <module>_c_entries.h says what CuTe DSL named the entries of the latter. The same sources give
the same bytes, wherever they are.
"""

import argparse
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCH = "sm_90a"


def fail(text):
    print(f"cute_build.py: {text}", file=sys.stderr)
    sys.exit(1)


def load():
    """CuTe DSL and the kernels, with an environment that is the same everywhere."""
    for name in [name for name in os.environ if name.startswith("CUTE_DSL_")]:
        del os.environ[name]
    os.environ["CUTE_DSL_ARCH"] = ARCH
    os.environ["CUTE_DSL_NO_CACHE"] = "1"
    sys.dont_write_bytecode = True
    try:
        import cutlass.cute  # noqa: F401
        import tvm_ffi  # noqa: F401
    except ImportError as error:
        fail(f"{sys.executable} has no '{error.name}': give a Python that the packages of "
             "tools/python/cute.txt are installed in")
    sys.path.insert(0, str(ROOT / "kernels" / "cute"))
    import indexer
    return indexer


def functions(indexer):
    """name -> (function, fake tensors)."""
    import cutlass
    import cutlass.cute as cute
    from cutlass.cute.runtime import make_fake_compact_tensor

    def tensor(dtype, *shape, align):
        order = tuple(reversed(range(len(shape))))
        return make_fake_compact_tensor(dtype, shape, stride_order=order, assumed_align=align)

    t, c = cute.sym_int32(symbol="T"), cute.sym_int32(symbol="C")
    q = tensor(cutlass.BFloat16, t, indexer.HEADS, indexer.DIM, align=16)
    kv = tensor(cutlass.BFloat16, c, indexer.DIM, align=16)
    dots = tensor(cutlass.Float32, t, indexer.HEADS, c, align=16)
    weights = tensor(cutlass.Float32, t, indexer.HEADS, align=4)
    scores = tensor(cutlass.Float32, t, c, align=4)
    return {
        "indexer_dots": (indexer.indexer_dots, (q, kv, dots)),
        "indexer_scores": (indexer.indexer_scores, (q, kv, weights, scores)),
    }


def compile_all(table, out):
    import cutlass.cute as cute
    from cutlass.cute.runtime import make_fake_stream

    entries = {}
    for name, (function, tensors) in table.items():
        start = time.monotonic()
        print(f"   {name}: TVM FFI", end="", flush=True)
        stream = make_fake_stream(use_tvm_ffi_env_stream=True)
        compiled = cute.compile(function, *tensors, stream, options="--enable-tvm-ffi")
        compiled.export_to_c(str(out / f"{name}_tvm_ffi.o"), function_name=name)
        print(", plain C", end="", flush=True)
        compiled = cute.compile(function, *tensors, make_fake_stream())
        compiled.export_to_c(str(out), f"{name}_c", function_prefix=f"pega_{name}")
        header = out / f"{name}_c.h"
        found = set(re.findall(rf"\b_mlir_pega_{name}__mlir_ciface_\w+", header.read_text()))
        if len(found) != 1:
            fail(f"{header.name}, which CuTe DSL wrote, declares {len(found)} entries, expected 1: "
                 "a release that this script does not know")
        header.unlink()
        entries[name] = found.pop()
        print(f" ({time.monotonic() - start:.1f} s)")
    return entries


def write_entries(entries, path):
    lines = ["/* Written by tools/dsl/cute_build.py. */", "#include <stdint.h>"]
    for name, entry in entries.items():
        lines.append(f"void {entry}(void **args, int32_t num_args);")
        lines.append(f"#define PEGA_{name.upper()}_ENTRY {entry}")
    path.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="folder for the objects")
    args = parser.parse_args()
    indexer = load()
    from importlib.metadata import version
    print(f"CuTe DSL {version('nvidia-cutlass-dsl')} for {ARCH}")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: objects of one build only.
        with tempfile.TemporaryDirectory(dir=args.out) as folder:
            work = pathlib.Path(folder)
            write_entries(compile_all(functions(indexer), work), work / "indexer_c_entries.h")
            for file in sorted(work.iterdir()):
                shutil.move(file, args.out / file.name)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
