# SPDX-License-Identifier: Apache-2.0
"""flashinfer_modules.py -o FOLDER [NAME...] | --list: builds modules of the FlashInfer that is installed
for this Python, with no GPU, and puts the shared libraries into FOLDER.

Run by `./dev artifacts flashinfer`, which sets CUDA_HOME to the pinned nvcc and FLASHINFER_WORKSPACE_BASE to
where objects are kept. Nothing of FlashInfer becomes a part of this project: who wants its kernels installs
its wheel. NAME is one of --list; norm where none is given. FLASHINFER_CUDA_ARCH_LIST says for what (9.0a).
"""

import argparse
import hashlib
import importlib
import inspect
import os
import pathlib
import pkgutil
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("FLASHINFER_CUDA_ARCH_LIST", "9.0a")
os.environ.setdefault("FLASHINFER_WORKSPACE_BASE", str(ROOT / "build/dsl/flashinfer-work"))
# Each compiler takes gigabytes: as many at once as there are processors, but not more than eight.
os.environ.setdefault("MAX_JOBS", str(min(8, os.cpu_count() or 1)))

import flashinfer  # noqa: E402
import flashinfer.jit  # noqa: E402
from flashinfer.jit.core import JitSpec  # noqa: E402


def generators():
    """The functions that describe a module and need no argument, by the name they are asked for here."""
    found = {}
    for info in pkgutil.iter_modules(flashinfer.jit.__path__):
        try:
            module = importlib.import_module(f"flashinfer.jit.{info.name}")
        except Exception:  # what it needs is not installed: nothing of it can be built
            continue
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("gen_") or not name.endswith("_module"):
                continue
            parameters = inspect.signature(function).parameters.values()
            if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
                found[name[len("gen_") : -len("_module")]] = function
    return found


def link_folder():
    """A folder with what FlashInfer's linker looks for and the nvcc package has not: libcudart.so and a libcuda.so
    to link with. The driver itself is found where the module runs."""
    folder = pathlib.Path(os.environ["FLASHINFER_WORKSPACE_BASE"]) / "link"
    folder.mkdir(parents=True, exist_ok=True)
    runtime = pathlib.Path(os.environ["CUDA_HOME"]) / "lib"
    candidates = [*runtime.glob("libcudart.so.*"), *(runtime.parent / "lib64").glob("libcudart.so.*")]
    if not candidates:
        sys.exit(f"flashinfer_modules.py: no libcudart.so in {runtime}: CUDA_HOME is to name a CUDA toolkit")
    place = folder / "libcudart.so"
    place.unlink(missing_ok=True)
    place.symlink_to(sorted(candidates)[-1])
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run(
        [*compiler, "-shared", "-nostdlib", "-Wl,-soname,libcuda.so.1", "-x", "c", "/dev/null", "-o", str(folder / "libcuda.so")],
        check=True,
    )
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=pathlib.Path)
    parser.add_argument("--list", action="store_true", help="what can be built, and nothing else")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    known = generators()
    if options.list:
        print("\n".join(sorted(known)))
        return
    if options.out is None:
        parser.error("-o FOLDER is needed")
    names = options.names or ["norm"]
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"FlashInfer {flashinfer.__version__} has no module {', '.join(unknown)} that can be built by name; --list shows which")
    folder = link_folder()
    os.environ["FLASHINFER_EXTRA_LDFLAGS"] = f"-L{folder}"
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"{name}: compiling for {os.environ['FLASHINFER_CUDA_ARCH_LIST']}", flush=True)
        spec = known[name]()
        if not isinstance(spec, JitSpec):
            sys.exit(f"flashinfer_modules.py: {name} is no module alone but {type(spec).__name__}: it cannot be built by name")
        spec.build()
        path = options.out / f"{name}.so"
        shutil.copyfile(spec.get_library_path(), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        print(f"{path}: {path.stat().st_size} bytes, from FlashInfer {flashinfer.__version__}, sha256 {digest}")
    # What the libraries need where they run, and torch or a toolkit has on a machine with a GPU.
    runtime = options.out / "runtime"
    runtime.mkdir(exist_ok=True)
    place = runtime / "libcudart.so.13"
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.relpath((folder / "libcudart.so").resolve(), runtime.resolve()))


if __name__ == "__main__":
    main()
