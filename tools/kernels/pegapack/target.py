# SPDX-License-Identifier: Apache-2.0
"""Where a pack may be written: never over what is not a pack, and never over what it is made from."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from .container import MAGIC, is_pack_folder
from .errors import BuildError

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_OWN_RULE = b"/pegapack/cli.py"  # every rule names the tool's own files


def check_targets(
    output: Path | None, folder: Path | None, depfile: Path | None, inputs: Iterable[Path]
) -> None:
    """Refuses what must not be overwritten; nothing is opened that is not a regular file."""
    inputs = list(inputs)
    if output is not None:
        _check_file("-o", output, inputs, _is_pack_file, "a kernel pack (it begins with PEGAPACK)")
    if depfile is not None:
        _check_file("--depfile", depfile, inputs, _is_rule, "a rule that build-pack wrote")
    if folder is not None:
        _check_folder(folder, inputs)
    named = [("-o", output), ("--depfile", depfile)]
    if output is not None and depfile is not None and _place(output) == _place(depfile):
        raise BuildError(f"-o and --depfile are both {output}: expected two files; name another")
    for option, path in named:
        if folder is not None and path is not None and _place(path).is_relative_to(_place(folder)):
            raise BuildError(
                f"{option} {path} is in --folder {folder}: expected a place outside of it, as the "
                "folder is replaced whole; name another"
            )


def _place(path: Path) -> Path:
    """Absolute, with the links before its last name followed."""
    return path.parent.resolve() / path.name


def _look(option: str, path: Path) -> os.stat_result | None:
    """What is there itself, not what a link leads to; None for nothing."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BuildError(f"cannot write {path} ({option}): {error.strerror or error}") from error


def _refuse(option: str, path: Path, expected: str, got: str) -> NoReturn:
    raise BuildError(
        f"cannot write {path} ({option}): expected {expected}, or a place where nothing is, got "
        f"{got}; it is left as it is: remove it or name another"
    )


def _check_file(
    option: str, path: Path, inputs: list[Path], is_own: Callable[[Path], bool], expected: str
) -> None:
    found = _look(option, path)
    if found is None:
        return
    if not stat.S_ISREG(found.st_mode):
        _refuse(option, path, "a regular file", _KINDS.get(stat.S_IFMT(found.st_mode), "no file"))
    for file in inputs:
        if os.path.samestat(found, os.stat(file)):
            _refuse(option, path, expected, f"{file}, which the pack is made from")
    try:
        own = found.st_size == 0 or is_own(path)
    except OSError as error:
        raise BuildError(f"cannot read {path} ({option}): {error.strerror or error}") from error
    if not own:
        _refuse(option, path, expected, "another file")


def _is_pack_file(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _is_rule(path: Path) -> bool:
    content = path.read_bytes()
    return content.count(b"\n") == 1 and b": " in content and _OWN_RULE in content


def _check_folder(path: Path, inputs: list[Path]) -> None:
    found = _look("--folder", path)
    if found is None:
        return
    expected = "a pack's folder (manifest.json, blobs/<sha256>) or an empty one"
    if not stat.S_ISDIR(found.st_mode):
        got = _KINDS.get(stat.S_IFMT(found.st_mode), "a regular file")
        _refuse("--folder", path, expected, got)
    for file in inputs:
        if file.resolve().is_relative_to(path.resolve()):
            _refuse("--folder", path, expected, f"the folder of {file}, which the pack is made from")
    try:
        own = is_pack_folder(path) and _is_manifest(path)
    except OSError as error:
        raise BuildError(f"cannot read {path} (--folder): {error.strerror or error}") from error
    if not own:
        _refuse("--folder", path, expected, "a folder that is not a pack's")


def _is_manifest(path: Path) -> bool:
    """Whether the folder's manifest is a pack's; a folder without one holds nothing else either."""
    manifest = path / "manifest.json"
    if not manifest.exists():
        return not any((path / "blobs").iterdir()) if (path / "blobs").exists() else True
    try:
        content = json.loads(manifest.read_bytes() or b"{}")
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and (not content or "schema_version" in content)
