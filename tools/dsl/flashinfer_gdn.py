# SPDX-License-Identifier: Apache-2.0
"""Builds modules of FlashInfer's gated delta rule for sm_90, with no GPU.

    PYTHON tools/dsl/flashinfer_gdn.py [-o build/artifacts/flashinfer/flashinfer_gdn_sm90.so]
        [--kernels build/artifacts/flashinfer/kernels/gdn_sm90.so]

PYTHON is one that has flashinfer-python and nvidia-cutlass-dsl; a C compiler and CUDA's static
runtime library are wanted too. The first module has one function, gated_delta_rule_prefill, which
takes what pega/qwen35.h says of a provided prefill; it needs no Python and none of the wheels when
it runs. docs/functions.md.

The second has the kernels one by one, those of the prefill and of the decode step, as FlashInfer's
own Python calls them once it has compiled them. bench/peers/flashinfer.py takes them from there
where the compiler is not installed. Beside it lies what it was made with, as JSON.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ["CUTE_DSL_ARCH"] = "sm_90a"

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TESTED = {"flashinfer-python": "0.7.2.post1", "nvidia-cutlass-dsl": "4.8.1"}

SHARED_PER_MULTIPROCESSOR = 233472  # bytes, of compute capability 9.0

# What is compiled: one object for each set of what its kernel knows when it is compiled. Heads,
# lengths and strides are known when it runs; there are no checkpoints, no state indices, and
# cu_seqlens is int64.
OBJECTS = [
    *(("prefill", {"initial": i}) for i in (False, True)),
    ("cp_t", {}),
    ("cp_mn", {}),
    *(
        ("cp_fixup", {"kind": kind, "initial": i})
        for kind in ("row4", "row8", "hmma")
        for i in (False, True)
    ),
    *(("cp_prefill", {"initial": i}) for i in (False, True)),
]

# The decode step knows its heads when it is compiled: HK, HV. [K,V] states have another kernel for
# small batches.
DECODE_HEADS = [(16, 32)]
DECODES = [
    (f"decode_{part}", {"heads": heads})
    for part in ("vk", "kv_small", "kv_big")
    for heads in DECODE_HEADS
]
DIM = 128


def decode_name(part, heads):
    """The symbol that FlashInfer gives the kernel in its own cache: it names all that was known."""
    import torch
    from flashinfer.gdn_kernels import gdn_decode_nontranspose as kv
    from flashinfer.gdn_kernels import gdn_decode_pretranspose as vk

    bf16, fp32 = torch.bfloat16, torch.float32
    target, sizes = (0, "sm_90a"), (1, *heads, DIM, DIM)
    if part == "decode_vk":  # dtypes of state, A_log, a, dt_bias, b, output
        dtypes = (fp32, fp32, bf16, bf16, bf16, bf16)
        name = vk._pretranspose_kernel_name(target, *sizes, dtypes, DIM**-0.5, True)
        return f"{vk._CUTE_DSL_MODULE}_{name}"
    # Of state, A_log, a, dt_bias, q, k, v, b, output.
    dtypes = (fp32, fp32, bf16, bf16, bf16, bf16, bf16, bf16, bf16)
    small = part == "decode_kv_small"
    name = kv._nontranspose_kernel_name(target, small, *sizes, dtypes, DIM**-0.5, True)
    return f"{kv._CUTE_DSL_MODULE}_{name}"


def name_of(part, how):
    """The part of the symbol that flashinfer_gdn.c calls; a decode kernel's own name."""
    if part.startswith("decode"):
        return decode_name(part, how["heads"])
    kind = f"_{how['kind']}" if "kind" in how else ""
    initial = f"_{int(how['initial'])}" if "initial" in how else ""
    return f"fi_{part}{kind}{initial}"


def fakes():
    """Makers of arguments that are known by type and rank alone."""
    import cutlass
    from cutlass import cute
    from cutlass.cute.runtime import make_fake_tensor

    def tensor(dtype, rank, leading, align):
        """All extents and steps dynamic, but for the step of 1."""
        shape = tuple(cute.sym_int32() for _ in range(rank))
        steps = tuple(1 if i == leading else cute.sym_int64() for i in range(rank))
        return make_fake_tensor(dtype, shape, steps, assumed_align=align)

    bf16, fp32 = cutlass.BFloat16, cutlass.Float32
    return {
        "q": lambda: tensor(bf16, 3, 1, 16),
        "rows": lambda: tensor(bf16, 3, 0, 16),
        "t": lambda: tensor(bf16, 4, 1, 16),
        "t_line": lambda: tensor(bf16, 1, 0, 128),
        "line": lambda: tensor(fp32, 1, 0, 16),
        "wide_line": lambda: tensor(fp32, 1, 0, 128),
        "squares": lambda: tensor(fp32, 4, 1, 128),
        "states": lambda: tensor(fp32, 4, 3, 16),
        "descriptors": lambda: tensor(cutlass.Int8, 1, 0, 128),
        "cu": lambda: tensor(cutlass.Int64, 1, 0, 8),
        "scale": lambda: fp32(1.0),
        "int": lambda: cutlass.Int32(1),
        "grid": lambda: 1,
        "none": lambda: None,
    }


def kernel_of(part, how):
    """FlashInfer's kernel object, and the arguments that it is called with, in words of fakes()."""
    import cutlass
    import torch
    from flashinfer.gdn_kernels.delta_rule_dsl import delta_rule_cp_sm90 as cp
    from flashinfer.gdn_kernels.delta_rule_dsl import delta_rule_sm90 as whole

    bf16, int64 = cutlass.BFloat16, torch.int64
    initial = how.get("initial", False)
    state = "states" if initial else "none"
    if part == "prefill":
        kernel = whole._FullyFusedDeltaRuleSm90(
            True, True, initial, False, bf16, cu_seqlens_dtype=int64
        )
        return kernel, (
            f"q rows rows rows line line states {state} none none none descriptors cu scale "
            "int int int int int int int grid"
        )
    if part == "cp_t":
        kernel = cp.CPDeltaRuleTPrecomputeSm90(bf16, cu_seqlens_dtype=int64)
        return kernel, "rows line t_line cu int int int int int"
    if part == "cp_mn":
        kernel = cp.CPDeltaRuleMNPrecomputeSm90(bf16, cu_seqlens_dtype=int64)
        return kernel, "rows rows t line line line cu int int int int int int int"
    if part == "cp_fixup":
        more = {"needs_initial_state": initial, "cu_seqlens_dtype": int64}
        if how["kind"] == "hmma":
            kernel = cp.CPDeltaRuleFixupHmmaSm90(**more)
        else:
            kernel = cp.CPDeltaRuleFixupSimtSm90(rows_per_cta=int(how["kind"][3:]), **more)
        return kernel, f"squares squares {state} none wide_line cu int int int int"
    kernel = cp.CPDeltaRulePrefillSm90(
        bf16, needs_initial_state=initial, store_final_state=True, cu_seqlens_dtype=int64
    )
    return kernel, (
        f"q rows rows t rows line states line {state} none none none descriptors cu scale "
        "int int int int int int int int int int"
    )


def decode_of(part, heads):
    """FlashInfer's function that launches a decode kernel, with its arguments in their order."""
    import cutlass
    from cutlass import cute
    from cutlass.cute.runtime import make_fake_compact_tensor, make_fake_stream, make_fake_tensor
    from flashinfer.gdn_kernels import gdn_decode_nontranspose as kv
    from flashinfer.gdn_kernels import gdn_decode_pretranspose as vk

    bf16, fp32, int32 = cutlass.BFloat16, cutlass.Float32, cutlass.Int32
    key_heads, value_heads = heads

    def rows(dtype, rank, align=None):
        """All extents and steps dynamic, but for the last step of 1."""
        shape = tuple(cute.sym_int32() for _ in range(rank))
        steps = (*(cute.sym_int64() for _ in range(rank - 1)), 1)
        return make_fake_tensor(dtype, shape, steps, assumed_align=align)

    def of_heads(dtype):
        return make_fake_compact_tensor(dtype, (value_heads,))

    states = make_fake_tensor(
        fp32, (cute.sym_int32(), DIM, DIM), (DIM * DIM, DIM, 1), assumed_align=16
    )
    q, k, v, output = (rows(bf16, 4, 16) for _ in range(4))
    a, b = rows(bf16, 3), rows(bf16, 3)
    a_log, dt_bias = of_heads(fp32), of_heads(bf16)
    slots, slots_out, starts = (rows(int32, 1, 16) for _ in range(3))
    known = {
        "softplus_beta": 1.0,
        "softplus_threshold": 20.0,
        "scale": DIM**-0.5,
        "T": 1,
        "H": key_heads,
        "HV": value_heads,
        "K": DIM,
        "V": DIM,
        "use_initial_state": True,
        "use_qk_l2norm": True,
        "stream": make_fake_stream(),
    }
    if part == "decode_vk":
        known |= {
            "use_pool_indexing": False,
            "is_varlen": False,
            "num_stages": vk.NUM_STAGES,
            "blocks_per_state": vk.NUM_BLOCKS_PER_STATE,
        }
        run = vk.run_gdn_decode_kernel_small_batch_pretranspose
        return run, (states, a_log, a, dt_bias, q, k, v, b, output, slots, slots_out, starts), known
    run = {
        "decode_kv_small": kv.run_gdn_decode_kernel_small_batch_nontranspose,
        "decode_kv_big": kv.run_gdn_decode_kernel_big_batch_nontranspose,
    }[part]
    return run, (starts, q, k, v, a, b, a_log, dt_bias, states, slots, output), known


def no_driver():
    """The compiler asks the driver for a device's shared memory, for a hint: it is known."""
    from cutlass.base_dsl.runtime import cuda

    def attribute(which, device_id=0):
        attributes = cuda.cuda.CUdevice_attribute
        if which != attributes.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
            raise RuntimeError(f"{which} of device {device_id} is asked for: there is no device")
        return SHARED_PER_MULTIPROCESSOR

    cuda.get_device_attribute = attribute


def compile_one(job):
    part, how, folder = job
    from cutlass import cute
    from cutlass.cute.runtime import make_fake_stream

    started = time.monotonic()
    no_driver()
    options = (cute.EnableTVMFFI(True), cute.GPUArch("sm_90a"))
    if part.startswith("decode"):
        kernel, arguments, known = decode_of(part, **how)
        compiled = cute.compile[options](kernel, *arguments, **known)
    else:
        makers = fakes()
        kernel, words = kernel_of(part, how)
        arguments = [makers[word]() for word in words.split()]
        compiled = cute.compile[options](kernel, *arguments, make_fake_stream())
    path = Path(folder) / f"{name_of(part, how)}.o"
    compiled.export_to_c(str(path), function_name=name_of(part, how))
    return path, len(arguments) + 1, time.monotonic() - started


def first(what, candidates, remedy):
    for path in candidates:
        if path.is_file():
            return path
    sys.exit(f"flashinfer_gdn.py: no {what}: {remedy}")


def libraries(cudart):
    """The static libraries that take the place of the runtime library of the wheel."""
    import nvidia_cutlass_dsl

    wheel = Path(next(iter(nvidia_cutlass_dsl.__path__)))
    runtime = first(
        "libcuda_dialect_runtime_static.a",
        sorted(wheel.glob("**/libcuda_dialect_runtime_static.a")),
        f"it was looked for in {wheel}",
    )
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    named = [Path(cudart)] if cudart else []
    found = [Path(h) / d / "libcudart_static.a" for h in homes if h for d in ("lib64", "lib")]
    remedy = "install CUDA's runtime library for development, or name the file with --cudart"
    return [runtime, first("libcudart_static.a", named or found, remedy)]


def link(out, sources, objects, exports, cudart, cc):
    """A module of these objects that has these functions and needs nothing of the wheels."""
    import tvm_ffi

    include = Path(tvm_ffi.__file__).parent / "include"
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "exports.map"
        names.write_text(
            "{ global: " + " ".join(f"__tvm_ffi_{name};" for name in exports) + " local: *; };\n"
        )
        command = [cc, "-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared"]
        command += ["-fvisibility=hidden"]
        command += ["-isystem", include, f"-I{ROOT / 'include'}", *sources]
        command += [ROOT / "src" / "cute_runtime" / "cute_runtime.c", *objects]
        command += [*libraries(cudart), "-lpthread", "-ldl", "-lrt", "-o", out]
        command += [f"-Wl,--version-script={names}", "-Wl,-z,now", "-Wl,-z,noexecstack", "-s"]
        done = subprocess.run(list(map(str, command)), check=False)
    if done.returncode != 0:
        sys.exit(f"flashinfer_gdn.py: {cc} ended with {done.returncode}")
    print(f"{out}: {out.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-o", "--out", default="build/artifacts/flashinfer/flashinfer_gdn_sm90.so", metavar="FILE"
    )
    parser.add_argument(
        "--kernels", default="build/artifacts/flashinfer/kernels/gdn_sm90.so", metavar="FILE"
    )
    parser.add_argument("--cc", default=os.environ.get("CC", "cc"), help="C compiler")
    parser.add_argument("--cudart", metavar="FILE", help="libcudart_static.a")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), metavar="N")
    options = parser.parse_args()
    for package, tested in TESTED.items():
        try:
            have = version(package)
        except PackageNotFoundError:
            sys.exit(
                f"flashinfer_gdn.py: {sys.executable} has no {package}: "
                f"pip install {package}=={tested}"
            )
        if have != tested:
            print(f"note: {package} {have}; this was tested with {tested}", file=sys.stderr)
    out = Path(options.out)
    folder = out.parent / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(part, how, str(folder)) for part, how in OBJECTS + DECODES]
    objects = []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for done, (path, arguments, seconds) in enumerate(pool.imap(compile_one, jobs), 1):
            size = path.stat().st_size
            text = f"{arguments} arguments, {size} bytes, {seconds:.0f} s"
            print(f"[{done}/{len(jobs)}] {path.stem}: {text}", flush=True)
            objects.append(path)
    entry = "gated_delta_rule_prefill"
    sources = [HERE / "flashinfer_gdn.c"]
    link(out, sources, objects[: len(OBJECTS)], [entry], options.cudart, options.cc)
    kernels = Path(options.kernels)
    link(kernels, [], objects, [path.stem for path in objects], options.cudart, options.cc)
    made = {"arch": "sm_90a", **{package: version(package) for package in TESTED}}
    kernels.with_suffix(".json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
