# SPDX-License-Identifier: Apache-2.0
"""The two forms of a pack, written whole or not at all; what is there already is left alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import BuildError

MAGIC = b"PEGAPACK"
_VERSION = 2
_KINDS = ["cubin", "ptx", "data", "fatbin"]
_FUNCTIONS = b'"functions":['
_ALIGNMENT = 64
_LARGEST_MANIFEST = {"file": 512 << 20, "folder": 32 << 20}
_LARGEST_PIECE = 32 << 20  # a function in a file's manifest
_LARGEST = 2**53 - 1  # what every reader of JSON keeps exactly
_BLOB_NAME = re.compile(r"[0-9a-f]{64}")


def _refuse_large(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_large(item, f"{where}.{key}" if where else key)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_large(item, f"{where}[{index}]")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise BuildError(
            f"{where} is {value}: expected an integer within +-(2^53 - 1), as past it JSON does not "
            "keep integers exactly; declare a smaller one"
        )


def _spell(value: Any) -> bytes:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The one spelling of a manifest: keys sorted, no blanks, ASCII."""
    _refuse_large(manifest, "")
    return _spell(manifest)


def _refuse_more(what: str, size: int, most: int) -> None:
    if size > most:
        raise BuildError(f"{what} has {size} bytes: at most {most} are allowed; make several packs")


def _index(manifest: bytes) -> bytes:
    """What is read of the file form when it is opened; docs/packs.md says what is where."""
    told = json.loads(manifest)
    functions = [_spell(function) for function in told["functions"]]
    _refuse_more("the manifest of a file", len(manifest), _LARGEST_MANIFEST["file"])
    for function, text in zip(told["functions"], functions):
        _refuse_more(f"function '{function['name']}'", len(text), _LARGEST_PIECE)
    # The key stands once: in a text its quotes would be escaped.
    begin = manifest.index(_FUNCTIONS) + len(_FUNCTIONS)
    assert manifest.startswith(b",".join(functions) + b"]", begin)
    out = bytearray(struct.pack("<Q", len(manifest)) + hashlib.sha256(manifest).digest())
    out += struct.pack(
        "<IIII", len(told["blobs"]), len(functions), begin, told["schema_version"]
    )
    for blob in told["blobs"]:
        out += bytes.fromhex(blob["sha256"])
        out += struct.pack("<QI", blob["size"], _KINDS.index(blob["kind"]))
    for text in functions:
        out += hashlib.sha256(text).digest() + struct.pack("<I", len(text))
    for name in [told["name"]] + [function["name"] for function in told["functions"]]:
        out += name.encode() + b"\0"
    return bytes(out)


def pack_bytes(manifest: bytes, order: list[str], blobs: Mapping[str, bytes]) -> bytes:
    """The file form of what manifest_bytes() spells; `order` is the manifest's order of blobs."""
    index = _index(manifest)
    out = bytearray(MAGIC + struct.pack("<II", _VERSION, len(index)))
    out += hashlib.sha256(index).digest() + index + manifest
    out.extend(bytes(-len(out) % _ALIGNMENT))
    for name in order:
        out.extend(blobs[name])
        out.extend(bytes(-len(out) % _ALIGNMENT))
    return bytes(out)


def write_file(path: Path, content: bytes) -> bool:
    """Writes `content`, or leaves the file alone where it holds that already. True if it wrote.

    What is there is replaced: check_targets() says what may be.
    """
    try:
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with open(part, "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise BuildError(f"cannot write {path}: {error.strerror or error}") from error
    return True


def write_folder(path: Path, manifest: bytes, blobs: Mapping[str, bytes]) -> bool:
    """Writes the folder form, or leaves it alone where it holds that already. True if it wrote.

    What is there is replaced: check_targets() says what may be.
    """
    _refuse_more(
        "the manifest of a folder", len(manifest), _LARGEST_MANIFEST["folder"]
    )  # a file may be larger
    try:
        if _holds(path, manifest, blobs):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        try:
            (part / "blobs").mkdir(parents=True)
            for name, content in blobs.items():
                (part / "blobs" / name).write_bytes(content)
            (part / "manifest.json").write_bytes(manifest)
            if path.exists():
                os.rename(path, old)
            try:
                os.rename(part, path)
            except BaseException:
                if old.exists():
                    os.rename(old, path)
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise BuildError(f"cannot write {path}: {error.strerror or error}") from error
    return True


def is_pack_folder(path: Path) -> bool:
    """Whether the folder holds a pack's files and nothing else (an empty one does); no links."""
    blobs = path / "blobs"
    return (
        stat.S_ISDIR(os.lstat(path).st_mode)
        and all(_is_part(e, "manifest.json", "blobs") for e in path.iterdir())
        and (
            not blobs.exists()
            or all(_BLOB_NAME.fullmatch(e.name) and _is_file(e) for e in blobs.iterdir())
        )
    )


def _is_part(path: Path, file: str, folder: str) -> bool:
    mode = os.lstat(path).st_mode
    return (path.name == file and stat.S_ISREG(mode)) or (
        path.name == folder and stat.S_ISDIR(mode)
    )


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode)


def _holds(path: Path, manifest: bytes, blobs: Mapping[str, bytes]) -> bool:
    if not path.is_dir() or not is_pack_folder(path) or not (path / "blobs").is_dir():
        return False
    own = path / "manifest.json"
    if not own.is_file() or own.read_bytes() != manifest:
        return False
    if {e.name for e in (path / "blobs").iterdir()} != set(blobs):
        return False
    return all((path / "blobs" / name).read_bytes() == content for name, content in blobs.items())
