# SPDX-License-Identifier: Apache-2.0
"""What is in a pack: the manifest against its schema, and Triton's launch convention in it."""

import ast
import hashlib
import json
import struct

import numpy as np
import pytest
from conftest import ROOT, SCALE


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_bytes())


def function(manifest, name):
    return next(f for f in manifest["functions"] if f["name"] == name)


def variant(manifest, name, target):
    return next(v for v in function(manifest, name)["variants"] if v["target"] == target)


def test_manifest_is_what_the_schema_says(abi):
    jsonschema = pytest.importorskip("jsonschema")
    schema = ROOT / "docs" / "pack.schema.json"
    if not schema.exists():
        pytest.skip("docs/pack.schema.json is not there")
    jsonschema.validate(manifest_of(abi), json.loads(schema.read_text()))


def test_manifest_has_one_spelling(abi):
    raw = (abi / "manifest.json").read_bytes()
    assert raw == json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":")).encode("ascii")


def test_blobs_are_what_they_are_called_and_all_are_used(abi):
    manifest = manifest_of(abi)
    used = {v["blob"] for f in manifest["functions"] for v in f["variants"]}
    for f in manifest["functions"]:
        for golden in f["golden"]:
            for arg in golden["args"].values():
                if isinstance(arg, dict):
                    used |= {arg[k]["blob"] for k in ("fill", "expect") if "blob" in arg.get(k, {})}
    names = [b["sha256"] for b in manifest["blobs"]]
    assert set(names) == used and names == sorted(names)
    for blob in manifest["blobs"]:
        content = (abi / "blobs" / blob["sha256"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (blob["size"], blob["sha256"])
    assert {p.name for p in (abi / "blobs").iterdir()} == set(names)


def test_the_file_form_holds_the_folder_form(tool):
    out, folder = tool.folder / "p.pegapack", tool.folder / "p"
    assert tool.run(tool.declare(), "-o", out, "--folder", folder, "-q").returncode == 0
    raw = out.read_bytes()
    magic, version, index_size = struct.unpack_from("<8sII", raw)
    assert (magic, version) == (b"PEGAPACK", 2)
    index = raw[48 : 48 + index_size]
    assert hashlib.sha256(index).digest() == raw[16:48]
    size, digest, num_blobs, num_functions, begin, schema = struct.unpack_from("<Q32sIIII", index)
    text = raw[48 + index_size : 48 + index_size + size]
    assert text == (folder / "manifest.json").read_bytes()
    assert hashlib.sha256(text).digest() == digest
    told = json.loads(text)
    assert (num_blobs, num_functions) == (len(told["blobs"]), len(told["functions"]))
    assert schema == told["schema_version"]
    at = 56
    for blob in told["blobs"]:
        sha256, blob_size, kind = struct.unpack_from("<32sQI", index, at)
        assert (sha256.hex(), blob_size) == (blob["sha256"], blob["size"])
        assert ["cubin", "ptx", "data", "fatbin"][kind] == blob["kind"]
        at += 44
    for function in told["functions"]:
        sha256, function_size = struct.unpack_from("<32sI", index, at)
        piece = text[begin : begin + function_size]
        assert json.loads(piece) == function and hashlib.sha256(piece).digest() == sha256
        assert text[begin + function_size] == ord("]" if function is told["functions"][-1] else ",")
        begin += function_size + 1
        at += 36
    names = [told["name"]] + [function["name"] for function in told["functions"]]
    assert index[at:] == b"".join(name.encode() + b"\0" for name in names)
    end = 48 + index_size + size
    at = -(-end // 64) * 64
    assert not any(raw[end:at])
    for blob in json.loads(text)["blobs"]:
        assert raw[at : at + blob["size"]] == (folder / "blobs" / blob["sha256"]).read_bytes()
        end = at + blob["size"]
        at = -(-end // 64) * 64
        assert not any(raw[end:at])
    assert at == len(raw)


GLUON = """
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

LAYOUT = gl.constexpr(gl.BlockedLayout([1], [32], [4], [0]))


@gluon.jit
def scale(x, y, n, factor, BLOCK: gl.constexpr):
    at = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, LAYOUT)
    gl.store(y + at, gl.load(x + at, mask=at < n) * factor, mask=at < n)
"""


def test_a_gluon_kernel_is_launched_as_any_other(tool):
    made = []
    for name, source in (("triton", SCALE), ("gluon", GLUON)):
        folder = tool.folder / name
        result = tool.run(tool.declare(source=source), "--folder", folder, "-q")
        assert result.returncode == 0, result.stderr
        made.append(variant(manifest_of(folder), "scale", "sm_90a"))
    for field in ("entry", "params", "grid", "block", "shared"):
        assert made[0][field] == made[1][field]
    assert made[1]["made_by"]["tool"] == "triton"


def test_every_function_of_the_tests_pack_has_golden_cases(abi):
    assert [f["name"] for f in manifest_of(abi)["functions"] if not f["golden"]] == []


def test_hidden_parameters_are_last(abi):
    params = variant(manifest_of(abi), "abi.scalars", "sm_90a")["params"]
    assert [(p["name"], p["role"], p["size"]) for p in params[-2:]] == [
        ("global_scratch", "global_scratch", 8),
        ("profile_scratch", "profile_scratch", 8),
    ]
    assert (params[-3]["name"], params[-3]["size"]) == ("last_u8", 1)
    assert params[-2]["offset"] == params[-3]["offset"] + 8  # seven bytes of nothing


def test_descriptor_is_decomposed_before_sm_90(abi):
    params = variant(manifest_of(abi), "abi.descriptor_2d_float32", "sm_80")["params"][:11]
    assert [(p["type"], p["offset"], p["value"]) for p in params] == [
        ("pointer", 0, "x"),
        ("i64", 8, "shape(x, 0)"),
        ("i64", 16, "shape(x, 1)"),
        ("i64", 24, "stride(x, 0)"),
        ("i64", 32, "stride(x, 1)"),
        ("bool", 40, "0"),
        ("bool", 41, "0"),
        ("i32", 44, "shape(x, 0)"),
        ("i32", 48, "shape(x, 1)"),
        ("i64", 56, "stride(x, 0)"),
        ("i64", 64, "stride(x, 1)"),
    ]


def test_descriptor_is_encoded_since_sm_90(abi):
    params = variant(manifest_of(abi), "abi.descriptor_2d_bfloat16", "sm_90a")["params"][:5]
    assert [(p["type"], p["value"]) for p in params] == [
        ("tensor_map", "x"),
        ("i32", "shape(x, 0)"),
        ("i32", "shape(x, 1)"),
        ("i64", "stride(x, 0)"),
        ("i64", "stride(x, 1)"),
    ]
    # Parameters begin at 0x210 of sm_90's constant bank: what is aligned to 64 there is at 48.
    assert params[0]["offset"] == 48
    assert params[0]["encoding"] == {
        "block": [32, 64],
        "swizzle": 3,
        "elem_type": 9,
        "elem_size": 2,
        "padding": 0,
        "fp4_padded": 0,
        "interleave": 0,
        "l2_promotion": 2,
    }


@pytest.mark.parametrize(
    "dtype, elem_type", [("float32", 7), ("float64", 8), ("bfloat16", 9), ("float16", 6)]
)
def test_element_types_are_the_drivers(abi, dtype, elem_type):
    encoding = variant(manifest_of(abi), f"abi.descriptor_nan_{dtype}", "sm_90a")["params"][0][
        "encoding"
    ]
    assert (encoding["elem_type"], encoding["padding"]) == (elem_type, 1)


def test_tf32_and_nan_are_flags_before_sm_90(abi):
    manifest = manifest_of(abi)
    flags = {}
    for name in (
        "abi.descriptor_tf32",
        "abi.descriptor_nan_float32",
        "abi.descriptor_zero_float32",
    ):
        params = {p["name"]: p for p in variant(manifest, name, "sm_80")["params"]}
        flags[name] = params["x.pads_nan"]["value"], params["x.rounds_to_tf32"]["value"]
    assert list(flags.values()) == [("0", "1"), ("1", "0"), ("0", "0")]
    assert (
        variant(manifest, "abi.descriptor_tf32", "sm_90a")["params"][0]["encoding"]["elem_type"]
        == 11
    )


def test_what_a_launch_needs(abi):
    manifest = manifest_of(abi)
    cluster = variant(manifest, "abi.cluster", "sm_90a")
    assert (cluster["cluster"], cluster["grid"][0]) == ([2, 1, 1], "(programs) * 2")
    assert variant(manifest, "abi.dependent", "sm_90a")["pdl"]
    assert variant(manifest, "abi.cooperative", "sm_80")["cooperative"]
    assert variant(manifest, "abi.global_scratch", "sm_90a")["global_scratch"] == {
        "size": 256,
        "alignment": 128,
    }
    assert variant(manifest, "abi.global_scratch", "sm_80")["global_scratch"]["size"] == 0
    assert variant(manifest, "abi.shared_over_48k", "sm_80")["shared"] > 48 * 1024
    near = variant(manifest, "abi.shared_near_limit", "sm_90a")
    assert 220 * 1024 < near["shared"] <= 227 * 1024 and near["static_shared"] == 0


def test_specialisations_are_conditions(abi):
    variants = function(manifest_of(abi), "abi.specialised")["variants"]
    assert [v.get("when") for v in variants if v["target"] == "sm_80"] == [
        ["x % 16 == 0", "y % 16 == 0", "n % 16 == 0", "stride == 1"],
        ["stride == 1"],
        ["x % 16 == 0", "y % 16 == 0", "n % 16 == 0"],
        None,
    ]
    assert [p["name"] for p in variants[0]["params"]] == [
        "x",
        "y",
        "which",
        "n",
        "global_scratch",
        "profile_scratch",
    ]
    # Three places that each change the code.
    assert len({v["blob"] for v in variants}) == len(variants)


def test_alignment_that_is_promised_needs_no_condition(tool):
    declaration = tool.declare(
        kernel='dict(arguments=dict(x=Arg("*fp32", divisible_by_16=True),'
        ' y=Arg("*fp32", divisible_by_16=True),'
        ' n=Arg("i32"), factor=Arg("fp32")))',
        function='dict(params=[pointer("x", "", alignment=16),'
        ' pointer("y", "", output=True, alignment=8),'
        'integer("n", ""), floating("factor", ""), stream()])',
    )
    assert tool.run(declaration, "--folder", tool.folder / "p", "-q").returncode == 0
    (only,) = manifest_of(tool.folder / "p")["functions"][0]["variants"]
    assert only["when"] == ["y % 16 == 0"]


def test_dependencies_are_told(tool):
    (tool.folder / "near.py").write_text("FACTOR = 2\n")
    out = tool.folder / "with blank.pegapack"
    (tool.folder / "beside.py").write_text("")
    declaration = tool.declare(source="import near\n" + SCALE, before="import beside")
    result = tool.run(declaration, "-o", out, "--depfile", tool.folder / "d", "-q")
    assert result.returncode == 0, result.stderr
    rule = (tool.folder / "d").read_text()
    assert rule.startswith(str(out).replace(" ", "\\ ") + ":")
    for file in (
        "declaration.py",
        "scale.py",
        "near.py",
        "beside.py",
        "tools/kernels/build-pack",
        "pegapack/layout.py",
    ):
        assert file in rule


def test_uniform_is_the_documented_generator():
    from pegapack.declare import Uniform
    from pegapack.golden import uniform

    mask = 2**64 - 1
    expected = []
    for i in range(1000):
        z = (7 + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected.append(-0.1 + (0.1 - -0.1) * (((z ^ (z >> 31)) >> 11) * 2.0**-53))
    assert uniform(1000, Uniform(seed=7, low=-0.1, high=0.1)).tolist() == expected


def test_bfloat16_rounds_once_to_nearest_even():
    from fractions import Fraction

    from pegapack.dtypes import from_storage, to_storage

    rng = np.random.default_rng(1)
    values = np.concatenate(
        [
            rng.normal(size=500),
            rng.normal(size=500) * 1e-39,
            [0.0, -0.0, np.inf, -np.inf, 3.3e38, 1e-45, 3.39e38],
            1 + 2.0**-8 + np.array([0, 2.0**-30, -(2.0**-30), 2.0**-8, 2.0**-7 + 2.0**-8]),
        ]
    )
    bits = to_storage(values, "bfloat16", "")
    got = from_storage(bits, "bfloat16")
    for value, rounded, b in zip(values, got, bits, strict=True):
        if np.isinf(rounded):
            assert abs(value) >= 2.0**128 - 2.0**119
            continue
        b = int(b)
        below, above = (
            (from_storage(np.array([b + d], dtype=np.uint16), "bfloat16")[0] for d in (-1, 1))
            if 0 < (b & 0x7FFF) < 0x7F7F
            else (rounded, rounded)
        )
        error = abs(Fraction(float(value)) - Fraction(float(rounded)))
        for other in (below, above):
            if other != rounded:
                distance = abs(Fraction(float(value)) - Fraction(float(other)))
                assert error < distance or (error == distance and b % 2 == 0)
    assert to_storage(np.array([np.nan]), "bfloat16", "")[0] == 0x7FC0


def load(path):
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_the_declaration_says_how_the_solve_is_compiled():
    """What its source said as well would be a second truth, which nothing compiles."""
    source = ROOT / "kernels" / "triton" / "gated_delta_rule_chunk_solve.py"
    _, *rest = ast.parse(source.read_text()).body  # but for what it says of itself
    layouts = [node for node in rest if isinstance(node, ast.Assign)]
    assert all(ast.unparse(node.value).startswith("gl.constexpr(gl.") for node in layouts)
    kinds = {type(node) for node in rest if node not in layouts}
    assert kinds == {ast.ImportFrom, ast.FunctionDef}


def test_golden_data_of_the_solve_inverts():
    """The reference of the project's own pack against numpy's inverse."""
    module = load(ROOT / "kernels" / "qwen35.py")
    a = np.random.default_rng(2).uniform(-0.1, 0.1, size=(70, 2, 64))
    got = module.chunk_solve({"a_tril_ptr": a, "seq_len": 70, "num_value_heads": 2})["a_inv_ptr"]
    for first, rows in ((0, 64), (64, 6)):
        for head in range(2):
            lower = np.tril(a[first : first + rows, head, :rows], -1)
            np.testing.assert_allclose(
                got[first : first + rows, head, :rows],
                np.linalg.inv(np.eye(rows) + lower),
                atol=1e-12,
            )
    assert not got[64:, :, 6:].any()


def test_what_readers_find_too_large_is_not_written(abi, tmp_path, monkeypatch):
    from pegapack import container
    from pegapack.errors import BuildError

    raw = (abi / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    order = [b["sha256"] for b in manifest["blobs"]]
    blobs = {name: (abi / "blobs" / name).read_bytes() for name in order}
    assert container.pack_bytes(raw, order, blobs)
    limits = {"file": len(raw) - 1, "folder": len(raw) - 1}
    with monkeypatch.context() as patch:
        patch.setattr(container, "_LARGEST_MANIFEST", limits)
        with pytest.raises(BuildError, match="the manifest of a file has .* at most"):
            container.pack_bytes(raw, order, blobs)
        with pytest.raises(BuildError, match="the manifest of a folder has .* at most"):
            container.write_folder(tmp_path / "p", raw, blobs)
    monkeypatch.setattr(container, "_LARGEST_PIECE", 100)
    with pytest.raises(BuildError, match="function 'abi.* has .* bytes: at most 100"):
        container.pack_bytes(raw, order, blobs)
