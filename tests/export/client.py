# SPDX-License-Identifier: Apache-2.0
"""`pega export` and its modules, seen from Python: what is in a module, calls through tvm_ffi on the fake
driver, and what the command refuses."""

import ctypes
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import pytest
import tvm_ffi

CLI = os.environ["PEGA_TEST_CLI"]
PACK = pathlib.Path(os.environ["PEGA_TEST_PACK"])
MODULE = os.environ["PEGA_TEST_MODULE"]
QWEN35 = pathlib.Path(os.environ["PEGA_TEST_QWEN35"])
SOLVE = "pegainfer.triton_cubin.qwen35.gated_delta_rule_chunk_solve"

driver = ctypes.CDLL("libcuda.so.1")
driver.pega_fake_driver_num_launches.restype = ctypes.c_uint64


class Param(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint32), ("size", ctypes.c_uint32), ("bytes", ctypes.c_void_p)]


class Launch(ctypes.Structure):
    """The head of pega_fake_driver_launch, as far as it is looked at, and what follows it."""

    _fields_ = [("sequence", ctypes.c_uint64), ("name", ctypes.c_char_p),
                ("function", ctypes.c_void_p), ("context", ctypes.c_void_p),
                ("stream", ctypes.c_void_p), ("device", ctypes.c_int32),
                ("flags", ctypes.c_bool * 4), ("grid", ctypes.c_uint32 * 3),
                ("block", ctypes.c_uint32 * 3), ("cluster", ctypes.c_uint32 * 3),
                ("shared", ctypes.c_uint32), ("num_attributes", ctypes.c_uint32),
                ("num_params", ctypes.c_uint32), ("params_size", ctypes.c_uint32),
                ("attributes", ctypes.c_void_p), ("params", ctypes.POINTER(Param)),
                ("params_bytes", ctypes.c_void_p)]

    def param(self, index):
        at = self.params[index]
        return ctypes.string_at(at.bytes, at.size)


def last_launch():
    launch = Launch()
    count = driver.pega_fake_driver_num_launches()
    assert count > 0
    assert driver.pega_fake_driver_get_launch(ctypes.c_uint64(count - 1), ctypes.byref(launch)) == 0
    return launch


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32),
                ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8),
                ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class DLManagedTensor(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


EVERY_TENSOR = []


class FakeTensor:
    """A tensor that says it is on a GPU; its memory is the host's, as the fake driver's is."""

    def __init__(self, *shape, device=(2, 0), dtype=(2, 32)):
        size = 4
        for extent in shape:
            size *= extent
        self.memory = ctypes.create_string_buffer(size + 256)
        self.data = (ctypes.addressof(self.memory) + 255) // 256 * 256
        self.shape = (ctypes.c_int64 * len(shape))(*shape)
        self.device = device
        EVERY_TENSOR.append(self)  # nobody tells when the last reference to it is gone
        self.managed = DLManagedTensor(
            DLTensor(self.data, *device, len(shape), *dtype, 1, self.shape, None, 0), None, None)

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **_unused):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.managed), b"dltensor", None)


@pytest.fixture(scope="module")
def module():
    return tvm_ffi.load_module(MODULE)


# ---- a module, from outside -------------------------------------------------------------------


def output_of(*words):
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("path", [MODULE])
def test_needs_nothing_but_libc_and_exports_functions_alone(path):
    dynamic = output_of("readelf", "-dW", path)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    assert needed <= {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"}, needed
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic
    symbols = [line.split() for line in output_of("nm", "-D", path).splitlines()]
    exported = {words[-1] for words in symbols if words[-2] not in ("U", "w")}
    assert exported and all(name.startswith("__tvm_ffi_") for name in exported), exported
    undefined = {words[-1] for words in symbols if words[-2] in ("U", "w")}
    assert {"TVMFFIEnvGetStream", "TVMFFIErrorSetRaised"} <= undefined
    assert not any("pega" in name or name.startswith(("elf", "cJSON", "nettle", "gelf"))
                   for name in undefined)
    # What came after 0.1.0 may be missing.
    weak = {words[-1] for words in symbols if words[-2] == "w"}
    assert not {name for name in undefined - weak if "BigInt" in name or "WithCause" in name}


@pytest.mark.parametrize("pack", [PACK, QWEN35])
def test_same_pack_same_bytes(tmp_path, pack):
    if not pack.exists():
        pytest.skip(f"{pack} is not there: ./dev kernels makes it")
    for name in ("a.so", "b.so"):
        export(pack, "-o", tmp_path / name)
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()


# ---- calls ------------------------------------------------------------------------------------


def test_metadata_and_doc(module):
    metadata = module.get_function_metadata("t.add")
    schema = json.loads(metadata["type_schema"])
    assert schema["type"] == "ffi.Function"
    assert [param["name"] for param in metadata["pega_params"]] == ["a", "b", "sum", "mask"]
    assert metadata["pega_params"][3]["optional"] is True
    assert metadata["pega_signature"].startswith("t.add(a: Tensor[float32, (T, 4)")
    tvm_ffi.core.TypeSchema.from_json_str(metadata["type_schema"])
    assert not module.get_function_doc("t.add")  # the pack has none
    assert module.implements_function("t.odd-name/1:x")


def test_tensors_on_the_environments_stream(module):
    a, b, total = (FakeTensor(5, 4) for _ in range(3))
    tensors = [tvm_ffi.from_dlpack(tensor) for tensor in (a, b, total)]
    context = ctypes.c_void_p()
    stream = ctypes.c_void_p()
    assert driver.cuInit(0) == 0
    assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert driver.cuCtxPushCurrent_v2(context) == 0
    assert driver.cuStreamCreate(ctypes.byref(stream), 0) == 0
    with tvm_ffi.use_raw_stream(tvm_ffi.device("cuda:0"), stream.value):
        assert module["t.add"](*tensors) is None
    got = last_launch()
    assert got.name == b"add" and got.stream == stream.value and got.device == 0
    assert list(got.grid) == [5, 1, 1]
    assert got.param(0) == a.data.to_bytes(8, "little")
    assert got.param(2) == total.data.to_bytes(8, "little")
    assert got.param(3) == bytes(8)  # no mask
    module["t.add"](*tensors, tensors[0])
    got = last_launch()
    assert got.stream is None and got.param(3) == a.data.to_bytes(8, "little")
    # In the place of pointers.
    module["t.scale"](tensors[0], tensors[2], 20, 0.5)
    got = last_launch()
    assert got.name == b"scale" and got.param(1) == total.data.to_bytes(8, "little")
    assert driver.cuStreamDestroy_v2(stream) == 0
    assert driver.cuCtxPopCurrent_v2(ctypes.byref(context)) == 0
    assert driver.cuDevicePrimaryCtxRelease_v2(0) == 0


@pytest.mark.parametrize("args, kind, text", [
    ((), TypeError, "t.scale: expected 4 to 5 arguments, got 0; call it as t.scale("),
    ((16, 16, 1, 1, 1, 1), TypeError, "expected 4 to 5 arguments, got 6"),
    (("x", 16, 1, 1), TypeError, "argument 0 'x_ptr': expected a pointer (or int >= 0), got string"),
    (([16], 16, 1, 1), TypeError, "argument 0 'x_ptr': expected a pointer (or int >= 0), got object"),
    ((16, 16, 1.5, 1), TypeError, "argument 2 'n': expected int, got float 1.5"),
    ((16, 16, -1, 1), ValueError, "argument 2 'n': expected a value from 0 to 1000000, got int -1"),
    ((17, 16, 1, 1), ValueError, "argument 0 'x_ptr': expected an address aligned to 16 bytes"),
])
def test_refused(module, args, kind, text):
    before = driver.pega_fake_driver_num_launches()
    with pytest.raises(kind, match=re.escape(text)):
        module["t.scale"](*args)
    assert driver.pega_fake_driver_num_launches() == before


def test_tensor_refused(module):
    wrong = tvm_ffi.from_dlpack(FakeTensor(6, 4))
    right = tvm_ffi.from_dlpack(FakeTensor(5, 4))
    host = tvm_ffi.from_dlpack(FakeTensor(5, 4, device=(1, 0)))
    with pytest.raises(ValueError, match=r"t.add: argument 1 'b': expected shape \(T, 4\), got \(6, 4\)"):
        module["t.add"](right, wrong, right)
    with pytest.raises(ValueError, match="expected a tensor on a cuda device, got cpu:0"):
        module["t.add"](host, host, host)


def run_python(text, **environment):
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})


def test_without_a_driver(tmp_path):
    (tmp_path / "libcuda.so.1").write_bytes(b"")
    done = run_python(
        f"import tvm_ffi\nm = tvm_ffi.load_module({MODULE!r})\n"
        "try:\n    m['t.scale'](16, 16, 1, 1.0)\nexcept RuntimeError as error:\n    print(error)\n",
        LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no CUDA driver: libcuda.so.1 could not be opened: ")
    assert "this module's kernels are for GPUs alone" in done.stdout


# ---- the command ------------------------------------------------------------------------------


def run(*words, **environment):
    return subprocess.run([CLI, "export", *map(str, words)], capture_output=True, text=True,
                          check=False,
                          env={**os.environ, "CC": os.environ["PEGA_TEST_CC"], **environment})


def export(*words, **environment):
    done = run(*words, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_in(path):
    symbols = output_of("nm", "-D", "--defined-only", str(path))
    return {name for name in re.findall(r"__tvm_ffi_(\S+)", symbols) if name[0] != "_"}


def test_choices(tmp_path):
    out = tmp_path / "module.so"
    report = json.loads(export(PACK, "-o", out, "--json", "-f", "t.add", "-f", "t.scale", "--prefix",
                               "mine.", "--alias", "--target", "sm_90a"))
    assert report["functions"] == ["mine.t.scale", "mine.t.add"]
    assert report["bytes"] == out.stat().st_size > report["kernel_bytes"] > 0
    assert names_in(out) == {"mine.t.scale", "mine.t.add", "mine_t_scale", "mine_t_add"}
    less = out.stat().st_size
    shutil.copy(out, tmp_path / "first.so")
    export(PACK, "-o", out)
    assert less < out.stat().st_size
    module = tvm_ffi.load_module(str(tmp_path / "first.so"))
    for name in ("mine.t.add", "mine_t_add"):
        module[name](*(tvm_ffi.from_dlpack(FakeTensor(5, 4)) for _ in range(3)))
        assert last_launch().name == b"add"
    with pytest.raises(TypeError, match="t.add: expected 3 to 4 arguments"):
        module.mine_t_add()


def test_ptx_is_left_out_unless_allowed(tmp_path):
    out = tmp_path / "module.so"
    export(PACK, "-o", out)
    assert b".target sm_100" not in out.read_bytes()
    export(PACK, "-o", out, "--allow-ptx", "-f", "t.scale", "-t", "sm_100")
    assert b".visible .entry scale_ptx() { ret; }\n\0" in out.read_bytes()
    refused(tmp_path, [PACK, "-o", out, "-f", "t.scale", "-t", "sm_100"], "PTX is left out unless")


def test_keep(tmp_path):
    export(PACK, "-o", tmp_path / "module.so", "--keep", tmp_path / "sources")
    kept = {path.name for path in (tmp_path / "sources").iterdir()}
    assert kept == {"module.c", "module.map", "descriptions.bin", "addresses.bin", "blobs.bin"}


def listing(folder):
    return sorted((path.name, path.stat().st_size) for path in folder.iterdir())


def refused(tmp_path, words, *texts, code=1, **environment):
    """The command fails, says why, and leaves the folder as it was."""
    before = listing(tmp_path)
    done = run(*words, **environment)
    assert done.returncode == code, (done.stdout, done.stderr)
    for text in texts:
        assert text in done.stderr, done.stderr
    assert listing(tmp_path) == before


def test_bad_packs(tmp_path):
    out = tmp_path / "module.so"
    out.write_bytes(b"what was there")
    whole = PACK.read_bytes()
    bad = tmp_path / "bad.pegapack"
    refused(tmp_path, [tmp_path / "none.pegapack", "-o", out], "none.pegapack")
    for size in (0, 1, 20, 1000, len(whole) - 1):
        bad.write_bytes(whole[:size])
        refused(tmp_path, [bad, "-o", out], "bad.pegapack")
    bad.write_bytes(b"\x7fELF" + bytes(5000))
    refused(tmp_path, [bad, "-o", out], "bad.pegapack")
    bad.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    refused(tmp_path, [bad, "-o", out], "its SHA-256 is")
    assert out.read_bytes() == b"what was there"


def test_bad_words(tmp_path):
    out = tmp_path / "module.so"
    refused(tmp_path, [PACK], "expected -o FILE", code=2)
    refused(tmp_path, [PACK, "-o", out, "-f", "t.scal"], "the nearest is 't.scale'")
    refused(tmp_path, [PACK, "-o", out, "-t", "sm_80"], "'t.add' of pack 'kernels' has no variant for sm_80")
    refused(tmp_path, [PACK, "-o", out, "-t", "pentium"], "target 'pentium'")
    for prefix, shown in (('a"b', "'\"'"), ("a\\", "'\\'"), ("a??/", "'?'"), ("a@@V", "'@'"), ("a%b", "'%'"),
                          ("a\nb", "byte 0x0a"), ("a b", "byte 0x20"), ("\x7f", "byte 0x7f"),
                          ("\u00e9", "byte 0xc3")):
        refused(tmp_path, [PACK, "-o", out, "--prefix", prefix, "--keep", tmp_path],
                f"a symbol's name cannot hold {shown}; expected letters")
    refused(tmp_path, [PACK, "-o", out, "--prefix", "_library_"], "must not begin with '_'")


def renamed(old, new):
    """PACK with another text in its manifest, as long as the old one, and an index that knows of it."""
    whole = PACK.read_bytes()
    index_size = struct.unpack_from("<I", whole, 12)[0]
    index = whole[48:48 + index_size]
    size, _, num_blobs, num_functions, begin, schema = struct.unpack_from("<Q32sIIII", index)
    manifest = whole[48 + index_size:][:size]
    assert manifest.count(old) == 1 and len(new) == len(old)
    manifest = manifest.replace(old, new)
    blobs = whole[-(-(48 + index_size + size) // 64) * 64:]
    at = 56 + 44 * num_blobs
    out = struct.pack("<Q32sIIII", size, hashlib.sha256(manifest).digest(), num_blobs, num_functions,
                      begin, schema) + index[56:at]
    names = [json.loads(manifest)["name"]]
    for i in range(num_functions):
        length = struct.unpack_from("<I", index, at + 36 * i + 32)[0]
        function = manifest[begin:begin + length]
        out += hashlib.sha256(function).digest() + struct.pack("<I", length)
        names.append(json.loads(function)["name"])
        begin += length + 1
    out += b"".join(name.encode() + b"\0" for name in names)
    out = struct.pack("<8sII", b"PEGAPACK", 2, len(out)) + hashlib.sha256(out).digest() + out + manifest
    return out + bytes(-len(out) % 64) + blobs


# Each has the length of the name that it replaces in the pack's JSON.
@pytest.mark.parametrize("name, shown", [
    (b"t.??/n.abort//", "'?'"),  # a trigraph: a line of assembler's own where C knows them
    (b"t.\\u0022,x??/n", "'\"'"),
    (b"t.\\\\n.abort//1", "'\\'"),
    (b"t.x;.abort/1:x", "';'"),
    (b"t.x)__asm__(/x", "')'"),
    (b"t.x@@HIDDEN/1x", "'@'"),
    (b"t.%s%s%n{a|b}x", "'%'"),
    (b"t.x#abort$1`x`", "'#'"),
    (b"t.\xc3\xa9-names/1:x", "byte 0xc3"),
])
def test_names_that_would_be_code(tmp_path, name, shown):
    pack = tmp_path / "hostile.pegapack"
    pack.write_bytes(renamed(b"t.odd-name/1:x", name))
    out = tmp_path / "module.so"
    refused(tmp_path, [pack, "-o", out, "--alias"],
            f"cannot be exported: a symbol's name cannot hold {shown}; expected letters", CC="false")
    export(pack, "-o", out, "-f", "t.add")  # what is not chosen is in no text
    assert names_in(out) == {"t.add"}


def test_names_that_are_no_code(tmp_path):
    """Also a name whose alias would be one of TVM FFI's own symbols has none."""
    for name in (b"t.x<a::b,1>/-y", b".metadata_tx-1"):
        pack = tmp_path / "odd.pegapack"
        pack.write_bytes(renamed(b"t.odd-name/1:x", name))
        export(pack, "-o", tmp_path / "module.so", "--alias")
        assert name.decode() in names_in(tmp_path / "module.so")
        symbols = output_of("nm", "-D", "--defined-only", str(tmp_path / "module.so")).split()
        assert f"__tvm_ffi__doc_{name.decode()}" in symbols
        assert "__tvm_ffi__metadata_tx-1" not in symbols
    # Paths are no text of the sources either.
    folder = tmp_path / 'a "b\n??/n,$(c)`d`'
    folder.mkdir(parents=True)
    export(PACK, "-o", folder / '@x";.so', "--keep", folder / "k,??n")
    assert "t.odd-name/1:x" in names_in(folder / '@x";.so')


def test_bad_places(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path, [PACK, "-o", tmp_path / "folder"], "it is a folder")
    refused(tmp_path, [PACK, "-o", f"{tmp_path}/folder/"], "it is a folder")
    refused(tmp_path, [PACK, "-o", tmp_path / "none" / "m.so"], "No such file or directory")
    refused(tmp_path, [PACK, "-o", tmp_path / "file" / "m.so"], "Not a directory")
    refused(tmp_path, [PACK, "-o", "/dev/null"], "it is no file")
    refused(tmp_path, [PACK, "-o", ""], "the output's path is empty")
    refused(tmp_path, [PACK, "-o", "/proc/m.so"], "cannot write to /proc")
    refused(tmp_path, [PACK, "-o", tmp_path / "m.so", "--keep", tmp_path / "file" / "k"], "cannot make")


def test_compilers(tmp_path):
    out = tmp_path / "module.so"
    refused(tmp_path, [PACK, "-o", out], "is linked by a C compiler", "No such file or directory",
            "CC", CC="/nowhere/cc")
    refused(tmp_path, [PACK, "-o", out], '"false" could not link the module (exit code 1)',
            CC="false")
    refused(tmp_path, [PACK, "-o", out], "is linked by a C compiler", PATH="/nowhere", CC="")
    # One that succeeds and makes nothing.
    refused(tmp_path, [PACK, "-o", out], "cannot write", CC="true")
    export(PACK, "-o", out, CC=f"env PEGA=1 {os.environ['PEGA_TEST_CC']} -g")
    for other in ("gcc", "clang"):
        if shutil.which(other):
            export(PACK, "-o", out, CC=other)
            assert "t.odd-name/1:x" in names_in(out)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path, how):
    out = tmp_path / "module.so"
    out.write_bytes(b"what was there")
    mark = tmp_path.parent / f"{tmp_path.name}.mark"
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\n: >partial.o\nmktemp >/dev/null\n: >{mark}\nsleep 60\n")
    slow.chmod(0o755)
    before = listing(tmp_path)
    process = subprocess.Popen([CLI, "export", PACK, "-o", out], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "CC": str(slow)})
    for _ in range(1000):
        if mark.exists():
            break
        time.sleep(0.01)
    assert mark.exists()
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode == -how
    assert listing(tmp_path) == before


def test_where_it_is_moved(tmp_path):
    """The archive is found from where the program is; without it the text says what to do."""
    copy = tmp_path / "bin" / "pega"
    copy.parent.mkdir()
    shutil.copy(CLI, copy)
    libraries = pathlib.Path(CLI).parent.parent / "lib"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    words = [str(copy), "export", str(PACK), "-o", str(tmp_path / "m.so")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1 and "libpega_module.a" in done.stderr, done.stderr
    (tmp_path / "lib" / "pega").mkdir(parents=True)
    shutil.copy(libraries / "pega" / "libpega_module.a", tmp_path / "lib" / "pega")
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


# ---- the project's own kernels ----------------------------------------------------------------


def test_qwen35(tmp_path):
    if not QWEN35.exists():
        pytest.skip("build/kernels/qwen35.pegapack is not there: ./dev kernels makes it")
    out = tmp_path / "qwen35.so"
    report = json.loads(export(QWEN35, "-o", out, "--json"))
    print(f"qwen35: {report['bytes']} bytes, {report['bytes'] - report['kernel_bytes']} of them no kernel")
    listed = json.loads(subprocess.run([CLI, "list", "--pack", QWEN35, "--json"], capture_output=True,
                                       check=True).stdout)
    assert sorted(report["functions"]) == sorted(function["name"] for function in listed["functions"])
    test_needs_nothing_but_libc_and_exports_functions_alone(str(out))
    solve = tvm_ffi.load_module(str(out))[SOLVE]
    a = tvm_ffi.from_dlpack(FakeTensor(64, 2, 64))
    inverse = tvm_ffi.from_dlpack(FakeTensor(64, 2, 64, dtype=(4, 16)))
    solve(a, inverse, 64, 2)
    got = last_launch()
    assert got.num_params >= 4
    with pytest.raises(TypeError, match=r"'a_inv_ptr': expected a tensor of bfloat16 \[seq_len, num_value_heads, 64\], "
                       "got dtype float32"):
        solve(a, a, 64, 2)
    with pytest.raises(ValueError, match="'a_tril_ptr': .* which is 8320 elements, got 8192"):
        solve(a, inverse, 65, 2)
    with pytest.raises(ValueError, match="'num_value_heads': expected a value from 0 to 524288"):
        solve(a, inverse, 64, 524289)
