# SPDX-License-Identifier: Apache-2.0
"""Kernels in CUDA C: what becomes of them in a pack, and what is said where they are wrong."""

import json
import os
import textwrap

import pytest
from conftest import ROOT
from test_determinism import build, two_places
from test_errors import fails
from test_pack import load, manifest_of

SCALE = """
#include "times.cuh"
#ifndef BLOCK
#define BLOCK 128
#endif
__device__ static float last[BLOCK];

extern "C" __global__ void __launch_bounds__(BLOCK) scale(const float *x, float *y, int n,
                                                          float factor) {
  int i = blockIdx.x * BLOCK + threadIdx.x;
  last[threadIdx.x] = factor;
  if (i < n) y[i] = times(x[i], factor);
}

extern "C" __global__ void shares(const float *x, float *y, signed char a, long long n) {
  __shared__ float turned[64];
  turned[threadIdx.x % 64] = x[threadIdx.x] + a;
  __syncthreads();
  y[threadIdx.x] = turned[(threadIdx.x + n) % 64];
}
"""
TIMES = "__device__ inline float times(float a, float b) { return a * b; }\n"

DECLARATION = """
from pegapack import *

KERNEL = dict(
    source="scale.cu", function="scale",
    arguments=dict(x=Arg("*fp32"), y=Arg("*fp32"), n=Arg("i32"), factor=Arg("fp32")),
    grid=["cdiv(n, 128)", "1", "1"], block=[128, 1, 1])
KERNEL.update({kernel})
OTHER = CudaKernel(
    source="scale.cu", function="shares", launch_pdl=True,
    arguments=dict(x=Arg("*fp32"), y=Arg("*fp32"), a=Arg("i8", "n % 100"), n=Arg("i64")),
    grid=["1", "1", "1"], block=[64, 1, 1], shared=128, when=["n > 0"])
PARAMS = [pointer("x", "source"), pointer("y", "target", output=True),
          integer("n", "elements", min=0, max=9999), floating("factor", "by what"), stream()]
PACK = Pack(name="scale", doc="a test", targets={targets},
            functions=[Function("scale", "y = factor x", PARAMS, [CudaKernel(**KERNEL)]),
                       Function("shares", "turned", PARAMS, [OTHER])])
"""


def declare(tool, *, source=SCALE, times=TIMES, kernel="{}", targets='["sm_80", "sm_90"]'):
    (tool.folder / "scale.cu").write_text(source)
    (tool.folder / "times.cuh").write_text(times)
    path = tool.folder / "declaration.py"
    path.write_text(textwrap.dedent(DECLARATION).format(kernel=kernel, targets=targets))
    return path


def variants(folder, name):
    return next(f for f in manifest_of(folder)["functions"] if f["name"] == name)["variants"]


def test_manifest(tool):
    jsonschema = pytest.importorskip("jsonschema")
    folder = tool.folder / "p"
    result = tool.run(declare(tool), "--folder", folder, "-q", "-j", 2)
    assert result.returncode == 0, result.stderr
    manifest = manifest_of(folder)
    jsonschema.validate(manifest, json.loads((ROOT / "docs" / "pack.schema.json").read_text()))
    assert len(manifest["blobs"]) == 2  # a source is one cubin for each target
    old, new = variants(folder, "shares")
    assert [v["target"] for v in (old, new)] == ["sm_80", "sm_90a"]
    assert [(p["type"], p["offset"], p["value"]) for p in new["params"]] == [
        ("pointer", 0, "x"),
        ("pointer", 8, "y"),
        ("i8", 16, "n % 100"),
        ("i64", 24, "n"),
    ]
    assert {p["role"] for p in new["params"]} == {"argument"}
    assert (old["static_shared"], new["static_shared"], new["shared"]) == (256, 256, 128)
    assert (old["pdl"], new["pdl"]) == (False, True)
    assert (new["when"], new["block"]) == (["n > 0"], [64, 1, 1])
    assert new["made_by"]["tool"] == "nvcc" and new["made_by"]["version"].startswith("13.")


def test_one_fatbin_for_all_targets(tool):
    """One blob, a variant for each target; the cubins inside are those of a pack of cubins."""
    folder, plain = tool.folder / "p", tool.folder / "q"
    targets = '["sm_80", "sm_90", "sm_100"]'
    declaration = declare(tool, kernel='dict(format="fatbin")', targets=targets)
    result = tool.run(declaration, "--folder", folder, "-q", "-j", 2)
    assert result.returncode == 0, result.stderr
    manifest = manifest_of(folder)
    kinds = {b["sha256"]: b["kind"] for b in manifest["blobs"]}
    made = variants(folder, "scale")
    assert [v["target"] for v in made] == ["sm_80", "sm_90a", "sm_100a"]
    assert len({v["blob"] for v in made}) == 1 and kinds[made[0]["blob"]] == "fatbin"
    assert tool.run(declare(tool, targets=targets), "--folder", plain, "-q").returncode == 0
    fatbin = (folder / "blobs" / made[0]["blob"]).read_bytes()
    for variant in variants(plain, "scale"):
        assert (plain / "blobs" / variant["blob"]).read_bytes() in fatbin
    assert str(tool.folder).encode() not in fatbin


def test_nvrtc(tool):
    """The same manifest but for the code and who made it; its headers are told."""
    folder, rule = tool.folder / "p", tool.folder / "d"
    declaration = declare(tool, kernel='dict(compiler="nvrtc")', targets='["sm_90"]')
    more = ("-o", tool.folder / "out", "--depfile", rule)
    result = tool.run(declaration, "--folder", folder, *more, "-q", "-j", 1)
    assert result.returncode == 0, result.stderr
    (made,) = variants(folder, "scale")
    assert made["made_by"]["tool"] == "nvrtc" and made["made_by"]["version"].startswith("13.")
    assert (made["target"], made["block"]) == ("sm_90a", [128, 1, 1])
    assert [p["type"] for p in made["params"]] == ["pointer", "pointer", "i32", "f32"]
    assert str(tool.folder / "times.cuh") in rule.read_text()


def test_nvrtc_in_two_places(tmp_path):
    source = SCALE.replace("last[threadIdx.x] = factor", "last[threadIdx.x] = __FILE__[n % 4]")
    kernel = 'dict(compiler="nvrtc", format="fatbin")'
    results = [
        build(tool, declare(tool, source=source, kernel=kernel), workers)
        for workers, tool in enumerate(two_places(tmp_path), 1)
    ]
    assert results[0] == results[1]


def test_two_places_give_the_same_bytes(tmp_path):
    """With a static variable, whose name the compiler makes, and __FILE__ in the code."""
    source = SCALE.replace("last[threadIdx.x] = factor", "last[threadIdx.x] = __FILE__[n % 4]")
    results = []
    for workers, tool in enumerate(two_places(tmp_path), 1):
        cache = () if workers == 1 else ("--cache", str(tool.folder / "a cache"))
        results.append(build(tool, declare(tool, source=source), workers, *cache))
    assert results[0] == results[1]


def test_what_the_environment_says_changes_nothing(tmp_path):
    tools = two_places(tmp_path)
    plain = build(tools[0], declare(tools[0]), 1)
    env = tools[1].environment
    tools[1].environment = lambda: {
        **env(),
        "NVCC_PREPEND_FLAGS": "-DBLOCK=64",
        "NVCC_APPEND_FLAGS": "-G",
        "CPATH": str(tmp_path),
        "CUDA_PATH": str(tmp_path),
    }
    assert build(tools[1], declare(tools[1]), 1) == plain


def test_the_cache_sees_what_is_included(tool):
    cache = tool.folder / "cache"
    more = ("--cache", str(cache), "--targets", "sm_90")
    first = build(tool, declare(tool), 1, *more)
    kept = list(cache.iterdir())
    assert len(kept) == 1
    kept[0].write_bytes(kept[0].read_bytes()[:-1])  # no longer whole
    assert build(tool, declare(tool), 1, *more) == first
    stamp = kept[0].stat().st_mtime_ns
    assert build(tool, declare(tool), 1, *more) == first
    assert kept[0].stat().st_mtime_ns == stamp
    changed = build(tool, declare(tool, times=TIMES.replace("a * b", "a + b")), 1, *more)
    assert changed[0] != first[0]
    defined = build(tool, declare(tool, kernel="dict(defines=dict(BLOCK=256))"), 1, *more)
    assert defined[0] != first[0] and len(list(cache.iterdir())) == 2


def test_dependencies_are_told(tool):
    declaration = declare(tool)
    out, rule = tool.folder / "out.pegapack", tool.folder / "d"
    result = tool.run(declaration, "-o", out, "--depfile", rule, "-q", "--targets", "sm_90")
    assert result.returncode == 0, result.stderr
    inputs = rule.read_text()
    assert str(tool.folder / "scale.cu") in inputs and str(tool.folder / "times.cuh") in inputs
    assert "cuda_runtime.h" not in inputs


ERRORS = {
    "no such source": (dict(kernel='dict(source="no.cu")'), "no.cu is not there"),
    "a compile error": (
        dict(times=TIMES.replace("float a", "floa a")),
        'times.cuh(1): error: identifier "floa" is undefined',
    ),
    "a missing header": (dict(source='#include "none.h"\n'), "none.h"),
    "what the assembler refuses": (
        dict(source=SCALE.replace("int i", 'asm volatile("nothing;"); int i')),
        "ptxas",
    ),
    "a compile error of NVRTC": (
        dict(times=TIMES.replace("float a", "floa a"), kernel='dict(compiler="nvrtc")'),
        'times.cuh(1): error: identifier "floa" is undefined',
    ),
    "an unknown compiler": (
        dict(kernel='dict(compiler="clang")'),
        "compiler 'clang'; expected one of: nvcc, nvrtc",
    ),
    "an unknown form": (
        dict(kernel='dict(format="elf")'),
        "format 'elf'; expected one of: cubin, fatbin",
    ),
    "no such kernel": (
        dict(kernel='dict(function="scael")'),
        "no kernel 'scael' in the source; it has: scale, shares",
    ),
    "a mangled name": (
        dict(source=SCALE.replace('extern "C" __global__ void __l', "__global__ void __l")),
        'declare it extern "C", so that its name stays as it is',
    ),
    "too few arguments": (
        dict(kernel='dict(arguments=dict(x=Arg("*fp32")))'),
        "the declaration has 1 arguments (x), the kernel takes 4 parameters (u64, u64, u32, f32",
    ),
    "another size": (
        dict(kernel='dict(arguments={**KERNEL["arguments"], "n": Arg("i64")})'),
        "parameter 2 'n' is declared as i64, the kernel's is u32 in PTX",
    ),
    "a float for an int": (
        dict(kernel='dict(arguments={**KERNEL["arguments"], "n": Arg("fp32", "factor")})'),
        "parameter 2 'n' is declared as f32, the kernel's is u32 in PTX",
    ),
    "a structure": (
        dict(source=SCALE.replace("int n,", "float3 n,").replace("< n)", "< n.x)")),
        "parameter 2 'n' is declared as i32, the kernel's is b8[12] in PTX",
    ),
    "a block past the launch bounds": (
        dict(kernel="dict(block=[256, 1, 1])"),
        "has 256 threads, the kernel is compiled for 128 at most (__launch_bounds__)",
    ),
    "a block that no GPU has": (dict(kernel="dict(block=[1025, 1, 1])"), "1024 threads at most"),
    "an unknown target": (
        dict(kernel='dict(targets=["sm_90a"])'),
        "unknown target 'sm_90a'; expected one of: sm_80",
    ),
    "a cluster before sm_90": (dict(kernel="dict(cluster=[2, 1, 1])"), "clusters came with sm_90"),
    "an unknown type": (
        dict(kernel='dict(arguments=dict(x=Arg("float")))'),
        "unknown Triton type 'float'",
    ),
    "a specialisation": (
        dict(kernel='dict(arguments=dict(x=Arg("*fp32", divisible_by_16=True)))'),
        "nvcc specialises nothing; say it in `when`",
    ),
    "a descriptor": (
        dict(kernel='dict(arguments=dict(x=Descriptor("fp32", [8, 8])))'),
        "a CUDA kernel takes no Descriptor",
    ),
    "a define that is no name": (
        dict(kernel='dict(defines={"A B": 1})'),
        "define 'A B' is no identifier",
    ),
    "a define that is a float": (
        dict(kernel="dict(defines=dict(A=1.5))"),
        "define 'A' is a float; expected an int or a str",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(tool, name):
    change, text = ERRORS[name]
    out = tool.folder / "out.pegapack"
    result = tool.run(declare(tool, targets='["sm_80"]', **change), "-o", out, "-j", 1)
    fails(result, tool, "build-pack: ", "function 'scale'", text)


def test_without_a_host_compiler(tool):
    empty = tool.folder / "empty"
    empty.mkdir()
    env = {**tool.environment(), "PATH": str(empty), "CXX": "no-such-compiler"}
    result = tool.run(declare(tool), "-o", tool.folder / "out.pegapack", env=env)
    fails(result, tool, "looked for CXX, g++, c++, clang++", "install g++")


def test_without_nvcc(tmp_path):
    from pegapack.errors import BuildError
    from pegapack.nvcc import find_folder

    parts = tmp_path / "nvidia" / "cu13"
    (parts / "bin").mkdir(parents=True)
    (parts / "bin" / "nvcc").write_text("")
    with pytest.raises(BuildError, match=r"lacks .*nvidia-cuda-nvcc.*nvidia-nvvm: './dev kernels'"):
        find_folder(tmp_path)


def test_other_compilers_preprocess_too(tool):
    """The cubin is nvcc's own, whoever preprocesses."""
    from pegapack.nvcc import find_host_compiler

    assert os.path.basename(find_host_compiler({"PATH": os.environ["PATH"]})) == "g++"
    assert find_host_compiler({"PATH": os.environ["PATH"], "CXX": "c++"}).endswith("/c++")
    env = {**tool.environment(), "CXX": "c++"}
    more = ("-q", "-j", 1, "--targets", "sm_80")
    out = tool.folder / "out.pegapack"
    assert tool.run(declare(tool), "-o", out, *more, env=env).returncode == 0
    first = out.read_bytes()
    assert tool.run(declare(tool), "-o", out, *more).returncode == 0
    assert out.read_bytes() == first


def test_types_in_ptx():
    from pegapack.nvcc import _entries

    ptx = """
.visible .entry a(
	.param .u64 .ptr .global .align 16 a_param_0,
	.param .u64 .ptr .align 1 a_param_1,
	.param .align 4 .b8 a_param_2[12],
	.param .f32 a_param_3
)
.maxntid 128
{ }
.visible .entry b()
{ }
"""
    assert _entries(ptx) == {"a": ["u64", "u64", "b8[12]", "f32"], "b": []}


def test_the_recurrence_of_the_decode_step():
    """The reference of the project's own decode kernels against the rule, written out."""
    import numpy as np

    load(ROOT / "kernels" / "qwen35.py")
    from qwen35.cuda import walk

    rng = np.random.default_rng(3)
    q, k, v = rng.normal(size=(3, 4, 128)) / 11
    g, beta, state = -rng.random(4), rng.random(4), rng.normal(size=(128, 128))
    out, after = walk(state, q, k, v, g, beta)
    for t in range(4):
        fade = np.exp(g[t]) * (np.eye(128) - beta[t] * np.outer(k[t], k[t]))
        state = fade @ state + beta[t] * np.outer(k[t], v[t])
        np.testing.assert_allclose(out[t], state.T @ q[t], atol=1e-12)
    np.testing.assert_allclose(after, state, atol=1e-12)
