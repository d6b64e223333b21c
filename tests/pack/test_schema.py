# SPDX-License-Identifier: Apache-2.0
"""test_schema.py SCHEMA PROGRAM: the JSON Schema and pega_pack_open() agree.

Each case changes one thing of a good manifest. Both must refuse it, but for what a schema cannot
say, which is marked: the reader alone refuses that.
"""
import copy
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:
    print("SKIP: Python has no jsonschema; `./dev setup` installs it into build/python")
    sys.exit(77)

CODE, DATA = b"no cubin, which opening does not look at", bytes(24)
CODE_NAME, DATA_NAME = (hashlib.sha256(b).hexdigest() for b in (CODE, DATA))


def good():
    param = {"name": "px", "type": "pointer", "offset": 0, "size": 8, "role": "argument", "value": "x"}
    variant = {
        "target": "sm_90a", "blob": CODE_NAME, "entry": "k", "when": ["n > 0"],
        "params": [
            param,
            {"name": "kn", "type": "i32", "offset": 8, "size": 4, "role": "argument", "value": "n"},
            {"name": "kf", "type": "f32", "offset": 12, "size": 4, "role": "argument", "value": "f"},
            {"name": "m", "type": "tensor_map", "offset": 16, "size": 128, "role": "tensor_descriptor",
             "value": "t", "encoding": {"block": [64, 64], "swizzle": 3, "elem_type": 6, "elem_size": 2,
                                        "padding": 0, "fp4_padded": 0, "interleave": 0,
                                        "l2_promotion": 0}},
            {"name": "gs", "type": "pointer", "offset": 144, "size": 8, "role": "global_scratch"},
            {"name": "ps", "type": "pointer", "offset": 152, "size": 8, "role": "profile_scratch"}],
        "grid": ["cdiv(n, 64)", "1", "1"], "block": [32, 1, 1], "cluster": [1, 1, 1], "shared": 0,
        "static_shared": 0, "registers": 24, "local_bytes": 0, "pdl": False, "cooperative": False,
        "global_scratch": {"size": 256, "alignment": 128},
        "profile_scratch": {"size": 0, "alignment": 1},
        "made_by": {"tool": "hand", "version": "1", "assembler": "none", "source": "x.py",
                    "source_sha256": "0" * 64, "flags": {"num_warps": 1, "list": [1, "a", None]}}}
    plain = {**variant, "target": "sm_80", "params": []}
    for key in ("when", "cluster", "pdl", "cooperative", "global_scratch", "profile_scratch", "made_by"):
        del plain[key]
    tensor = {"dtype": "float32", "shape": [3, 2]}
    return {
        "schema_version": 1, "name": "x", "doc": "d",
        "blobs": [{"sha256": CODE_NAME, "size": len(CODE), "kind": "cubin"},
                  {"sha256": DATA_NAME, "size": len(DATA), "kind": "data"}],
        "functions": [{
            "name": "t.f", "doc": "d", "same_device": False,
            "params": [
                {"name": "x", "type": "pointer", "doc": "d", "domain": "d", "optional": False,
                 "nonnull": True, "output": True, "alignment": 16,
                 "pointee": {"dtype": "float32", "shape": "n, 2", "layout": "row-major"}},
                {"name": "n", "type": "int", "min": 0, "max": 2147483647},
                {"name": "f", "type": "float"},
                {"name": "t", "type": "Tensor", "dtype": "float16", "shape": "M, 64",
                 "contiguous": True, "alignment": 128, "output": False},
                {"name": "b", "type": "bool"},
                {"name": "s", "type": "stream", "nonnull": False}],
            "variants": [variant, plain],
            "golden": [{"name": "g", "args": {
                "x": {**tensor, "fill": {"generator": "uniform", "seed": 7, "low": -1, "high": 1.5},
                      "expect": {"blob": DATA_NAME, "atol": 0.001, "rtol": 0.0}},
                "n": 3, "f": 2.5, "b": True,
                "t": {"dtype": "float16", "shape": [1, 64],
                      "fill": {"generator": "constant", "value": 1}}}}]}]}


REMOVE = object()
F, V, G = ("functions", 0), ("functions", 0, "variants", 0), ("functions", 0, "golden", 0)
P = (*V, "params")
X = (*G, "args", "x")

# What both refuse: where, and the value to put there.
BOTH = [
    (("schema_version",), REMOVE), (("schema_version",), 2), (("schema_version",), "1"),
    (("name",), REMOVE), (("name",), ""), (("name",), "a b"), (("name",), "n" * 256),
    (("new",), 1), (("doc",), 1), (("doc",), "d" * 65536), (("blobs",), REMOVE), (("blobs",), {}),
    (("functions",), REMOVE), (("functions",), {}), (("functions", 0), []),
    (("blobs", 0, "new"), 1), (("blobs", 0, "kind"), "elf"), (("blobs", 0, "kind"), REMOVE),
    (("blobs", 0, "sha256"), CODE_NAME.upper()), (("blobs", 0, "sha256"), "../x"),
    (("blobs", 0, "size"), -1), (("blobs", 0, "size"), "1"), (("blobs", 0, "size"), 1 << 31),
    (("blobs", 0, "size"), 1.5),
    ((*F, "new"), 1), ((*F, "name"), REMOVE), ((*F, "name"), "a\tb"), ((*F, "name"), "n" * 256),
    ((*F, "same_device"), 1), ((*F, "params"), REMOVE), ((*F, "variants"), REMOVE),
    ((*F, "variants"), []), ((*F, "golden"), {}),
    ((*F, "params", 0, "new"), 1), ((*F, "params", 0, "name"), "1x"),
    ((*F, "params", 0, "name"), "n" * 65), ((*F, "params", 0, "type"), "string"),
    ((*F, "params", 0, "alignment"), 24), ((*F, "params", 0, "alignment"), 0),
    ((*F, "params", 0, "nonnull"), 1), ((*F, "params", 0, "min"), 1),
    ((*F, "params", 0, "pointee", "new"), 1), ((*F, "params", 0, "pointee", "layout"), "column-major"),
    ((*F, "params", 0, "pointee", "shape"), "n, "), ((*F, "params", 0, "pointee", "dtype"), REMOVE),
    ((*F, "params", 1, "max"), REMOVE), ((*F, "params", 1, "min"), REMOVE),
    ((*F, "params", 1, "min"), 0.5),
    ((*F, "params", 1, "min"), -(1 << 53)), ((*F, "params", 1, "max"), 1 << 53),
    ((*F, "params", 1, "max"), (1 << 53) + 1), ((*X, "fill", "seed"), 1 << 53),
    ((*X, "shape", 0), 1 << 53), ((*V, "shared"), 262145.0), ((*F, "params", 1, "shape"), "n"),
    ((*F, "params", 1, "contiguous"), True), ((*F, "params", 2, "min"), 0),
    ((*F, "params", 2, "nonnull"), True), ((*F, "params", 3, "shape"), "M; 64"),
    ((*F, "params", 3, "pointee"), {}), ((*F, "params", 3, "nonnull"), True),
    ((*F, "params", 5, "output"), True), ((*F, "params", 4), {"name": "b", "type": "stream"}),
    ((*V, "new"), 1), ((*V, "target"), "sm_9"), ((*V, "target"), "sm_80a"), ((*V, "target"), "sm_90f"),
    ((*V, "target"), "compute_90"), ((*V, "blob"), "x"), ((*V, "entry"), ""), ((*V, "entry"), "a b"),
    ((*V, "when"), "n > 0"), ((*V, "when"), ["1"] * 65), ((*V, "grid"), ["1", "1"]),
    ((*V, "grid", 0), 1), ((*V, "grid", 0), ""), ((*V, "grid", 0), "1" + " " * 512),
    ((*V, "block"), [1, 1]), ((*V, "block", 0), 0), ((*V, "block", 0), 1025), ((*V, "block", 2), 65),
    ((*V, "cluster", 0), 17), ((*V, "cluster"), [1, 1, 1, 1]), ((*V, "shared"), 262145),
    ((*V, "static_shared"), -1), ((*V, "registers"), 256), ((*V, "local_bytes"), 524289),
    ((*V, "pdl"), 0), ((*V, "cooperative"), "no"), ((*V, "global_scratch"), 256),
    ((*V, "global_scratch", "alignment"), 96), ((*V, "global_scratch", "size"), REMOVE),
    ((*V, "global_scratch", "new"), 1), ((*V, "global_scratch", "alignment"), 1 << 21),
    ((*V, "made_by", "new"), 1), ((*V, "made_by", "tool"), 1), ((*V, "made_by", "source_sha256"), "1"),
    ((*V, "made_by", "flags"), []), ((*V, "made_by", "flags", "a"), {}),
    ((*V, "made_by", "flags", "a"), [[]]),
    ((*V, "made_by", "flags", "a"), "t" * 65536), ((*V, "made_by", "flags", "a"), ["t" * 65536]),
    ((*V, "made_by", "flags", "a"), [1] * 257), ((*V, "made_by", "flags", "k" * 65536), 1),
    ((*V, "made_by", "flags"), {str(i): i for i in range(257)}), ((*V, "made_by", "tool"), "t" * 65536),
    ((*F, "variants", 1, "cluster"), [2, 1, 1]), ((*F, "variants", 1, "pdl"), True),
    ((*P, 0, "new"), 1), ((*P, 0, "name"), ""), ((*P, 0, "type"), "int"), ((*P, 0, "offset"), -8),
    ((*P, 0, "offset"), 4), ((*P, 0, "offset"), 4096), ((*P, 0, "size"), 4), ((*P, 0, "role"), "x"),
    ((*P, 0, "value"), REMOVE), ((*P, 0, "value"), 1), ((*P, 0, "encoding"), {}),
    ((*P, 3, "encoding"), REMOVE), ((*P, 3, "value"), REMOVE), ((*P, 3, "role"), "argument"),
    ((*P, 3, "encoding", "new"), 1), ((*P, 3, "encoding", "block"), []),
    ((*P, 3, "encoding", "block"), [1] * 6), ((*P, 3, "encoding", "block", 0), 257),
    ((*P, 3, "encoding", "swizzle"), 7), ((*P, 3, "encoding", "elem_type"), 16),
    ((*P, 3, "encoding", "elem_size"), 0), ((*P, 3, "encoding", "padding"), 2),
    ((*P, 3, "encoding", "padding"), REMOVE), ((*P, 3, "encoding", "interleave"), 3),
    ((*P, 4, "value"), "x"), ((*P, 4, "type"), "u64"),
    ((*G, "new"), 1), ((*G, "name"), ""), ((*G, "args"), []), ((*G, "args", "n"), "3"),
    ((*G, "args", "n"), None), ((*X, "new"), 1), ((*X, "dtype"), REMOVE), ((*X, "shape"), [3, -2]),
    ((*X, "shape"), [1] * 9), ((*X, "fill", "generator"), "normal"), ((*X, "fill", "seed"), -1),
    ((*X, "fill", "seed"), REMOVE), ((*X, "fill", "low"), "a"), ((*X, "fill", "blob"), DATA_NAME),
    ((*X, "expect", "atol"), -1), ((*X, "expect", "rtol"), REMOVE), ((*X, "expect", "blob"), "x"),
    ((*X, "expect", "new"), 1),
]

# What both take: 1.0 is the integer 1, and 2^53 - 1 the largest.
TAKEN = [
    (("schema_version",), 1.0), ((*V, "shared"), 4096.0), ((*F, "params", 1, "max"), (1 << 53) - 1),
    ((*F, "params", 1, "min"), -(1 << 53) + 1), ((*X, "fill", "seed"), (1 << 53) - 1),
    ((*X, "fill", "low"), -0.0), ((*X, "fill", "high"), 1 << 60), ((*V, "registers"), -0.0),
    ((*V, "made_by", "flags", "a"), 1 << 60),
    ((*V, "made_by", "flags", "a"), [1] * 256), ((*V, "made_by", "flags", "k" * 65535), "t" * 65535),
    ((*V, "made_by", "flags"), {str(i): i for i in range(256)}),
    ((*F, "variants", 1, "cluster"), [1.0, 1, 1]), ((*F, "variants", 1, "pdl"), False),
    ((*V, "cluster"), [2, 1, 1]), ((*V, "pdl"), True),
]

# What the reader alone refuses: names that mean nothing, sums, expressions.
READER = [
    (("blobs", 0, "size"), 7), ((*F, "params", 1, "name"), "x"),
    ((*F, "params", 1, "min"), 2147483648), ((*F, "params", 0, "pointee", "shape"), "m, 2"),
    ((*F, "params", 3, "dtype"), "float17x"), ((*V, "blob"), "0" * 64), ((*V, "blob"), DATA_NAME),
    ((*V, "when", 0), "n >"), ((*V, "block"), [64, 32, 1]), ((*V, "cluster"), [8, 4, 1]),
    ((*P, 1, "name"), "px"), ((*P, 1, "offset"), 4),
    ((*P, 0, "value"), "y"), ((*P, 2, "value"), "f + 1"), ((*P, 3, "value"), "x"),
    ((*P, 3, "encoding", "block"), [64]), ((*P, 5, "role"), "global_scratch"),
    ((*G, "args", "n"), REMOVE), ((*G, "args", "n"), 4), ((*G, "args", "y"), 4),
    ((*G, "args", "b"), 1), ((*X, "dtype"), "float16"), ((*X, "shape"), [3]),
    ((*X, "fill", "low"), 2), ((*X, "expect"), REMOVE),
]


def changed(path, value):
    manifest = copy.deepcopy(good())
    at = manifest
    for step in path[:-1]:
        at = at[step]
    if value is REMOVE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return manifest


def read(program, manifests):
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, manifest in enumerate(manifests):
            files.append(pathlib.Path(folder) / str(i))
            (files[-1] / "blobs").mkdir(parents=True)
            (files[-1] / "manifest.json").write_text(json.dumps(manifest))
            for name, content in ((CODE_NAME, CODE), (DATA_NAME, DATA)):
                (files[-1] / "blobs" / name).write_bytes(content)
        out = subprocess.run([program, *map(str, files)], check=True, capture_output=True, text=True)
    lines = out.stdout.splitlines()
    assert len(lines) == len(manifests), out.stdout
    return lines


def main():
    schema = json.loads(pathlib.Path(sys.argv[1]).read_text())
    validator_class = jsonschema.Draft202012Validator
    validator_class.check_schema(schema)
    validator = validator_class(schema)
    wrong = []

    errors = [error.message for error in validator.iter_errors(good())]
    line = read(sys.argv[2], [good()])[0]
    if errors or line.rstrip() != "OK":
        wrong.append(f"the good manifest: schema {errors}, reader {line}")
    taken = [changed(path, value) for path, value in TAKEN]
    for case, manifest, line in zip(TAKEN, taken, read(sys.argv[2], taken)):
        if not validator.is_valid(manifest) or not line.startswith("OK"):
            wrong.append(f"{case}: schema {validator.is_valid(manifest)}, reader {line}")
    for cases, schema_refuses in ((BOTH, True), (READER, False)):
        manifests = [changed(path, value) for path, value in cases]
        for (path, value), manifest, line in zip(cases, manifests, read(sys.argv[2], manifests)):
            value = "removed" if value is REMOVE else repr(value)[:60]
            where = ".".join(str(step)[:60] for step in path)
            if validator.is_valid(manifest) == schema_refuses:
                wrong.append(f"{where} = {value}: the schema {'takes' if schema_refuses else 'refuses'} it")
            if line.startswith("OK"):
                wrong.append(f"{where} = {value}: the reader takes it")

    # No object of the schema lets unknown fields pass.
    def check_closed(node, where):
        if isinstance(node, dict):
            # Parts of an `if`, a `then` with fewer fields and `contains` only look at what is there.
            opens = any(step in ("if", "contains", "allOf") for step in where)
            if node.get("type") == "object" and "additionalProperties" not in node and not opens \
                    and where[-1:] != ["param"]:
                wrong.append(f"schema: {'/'.join(where)} takes unknown fields")
            for key, child in node.items():
                check_closed(child, where + [key])
        elif isinstance(node, list):
            for child in node:
                check_closed(child, where)

    check_closed(schema, [])
    for text in wrong:
        print(text, file=sys.stderr)
    print(f"{len(TAKEN)} manifests taken, {len(BOTH)} refused by both, {len(READER)} by the reader alone")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
