# SPDX-License-Identifier: Apache-2.0
"""What build-pack does not write over: what is no pack, what is no file, and its own inputs."""

import os
import socket
import stat

import pytest
from conftest import SCALE


def fifo(path):
    os.mkfifo(path)


def sock(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # a socket's path is short


def link(path):
    path.with_name("precious").write_text("keep")
    path.symlink_to("precious")


def dangling(path):
    path.symlink_to("nowhere")


def link_to_pack(path):
    path.with_name("real").write_bytes(b"PEGAPACK, some")
    path.symlink_to("real")


def folder(path):
    path.mkdir()


def link_to_folder(path):
    path.with_name("real").mkdir()
    path.symlink_to("real")


def text(path):
    path.write_text("PEGAPAC, nearly")


def snapshot(top):
    """Everything there: kind, inode, and what it holds or leads to."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        content = path.read_bytes() if stat.S_ISREG(kind) else None
        leads = os.readlink(path) if stat.S_ISLNK(kind) else None
        found[str(path)] = kind, status.st_ino, content, leads
    return found


def refused(tool, *args, texts):
    before = snapshot(tool.folder)
    result = tool.run(*args, "-j", 1)
    assert result.returncode == 1, result.stderr
    for said in texts:
        assert said in result.stderr
    assert "build-pack: " in result.stderr and "Traceback" not in result.stderr
    assert snapshot(tool.folder) == before


NO_FILE = {
    fifo: "a FIFO",
    sock: "a socket",
    link: "a symbolic link",
    dangling: "a symbolic link",
    link_to_pack: "a symbolic link",
    folder: "a folder",
}


@pytest.mark.parametrize("make", NO_FILE)
@pytest.mark.parametrize("option", ["-o", "--depfile"])
def test_what_is_no_file(tool, monkeypatch, option, make):
    monkeypatch.chdir(tool.folder)
    target = tool.folder / "target"
    make(target)
    more = () if option == "-o" else ("-o", tool.folder / "out.pegapack")
    said = (
        f"cannot write {target} ({option}): expected a regular file, or a place where nothing is",
        f"got {NO_FILE[make]}; it is left as it is: remove it or name another",
    )
    refused(tool, tool.declare(), option, target, *more, texts=said)


def test_another_file(tool):
    target = tool.folder / "target"
    text(target)
    declaration, out = tool.declare(), tool.folder / "out.pegapack"
    said = (f"cannot write {target} (-o): expected a kernel pack", "got another file")
    refused(tool, declaration, "-o", target, texts=said)
    said = (f"cannot write {target} (--depfile): expected a rule that build-pack wrote",)
    refused(tool, declaration, "-o", out, "--depfile", target, texts=said)
    target.write_text("out: declaration.py\n")
    refused(tool, declaration, "-o", out, "--depfile", target, texts=said)


@pytest.mark.parametrize("name", ["declaration.py", "scale.py", "near.py", "beside.py"])
def test_an_input(tool, name):
    """By another name too; beside.py and near.py are empty, as a target may be."""
    (tool.folder / "near.py").write_text("")
    (tool.folder / "beside.py").write_text("")
    source = "import triton, near\nimport triton.language as tl\n"
    declaration = tool.declare(source=source + SCALE, before="import beside")
    other = tool.folder / "other"
    os.link(tool.folder / name, other)
    out = tool.folder / "out.pegapack"
    for target in (tool.folder / name, other):
        said = (f"cannot write {target} (", f"{name}, which the pack is made from")
        refused(tool, declaration, "-o", target, texts=said)
        refused(tool, declaration, "-o", out, "--depfile", target, texts=said)


FOLDERS = {
    fifo: "a FIFO",
    link: "a symbolic link",
    dangling: "a symbolic link",
    link_to_folder: "a symbolic link",
    text: "a regular file",
}


@pytest.mark.parametrize("make", FOLDERS)
def test_what_is_no_folder(tool, make):
    target = tool.folder / "target"
    make(target)
    said = (f"cannot write {target} (--folder): expected a pack's folder", f"got {FOLDERS[make]};")
    refused(tool, tool.declare(), "--folder", target, texts=said)


def test_another_folder(tool):
    declaration, target = tool.declare(), tool.folder / "target"
    blob = target / "blobs" / ("0" * 64)
    said = ("(--folder): expected a pack's folder", "got a folder that is not a pack's; it is left")

    def refuse():
        refused(tool, declaration, "--folder", target, texts=said)

    target.mkdir()
    (target / "file").write_text("keep")
    refuse()
    (target / "file").rename(target / "manifest.json")  # of something else
    refuse()
    (target / "manifest.json").write_text('{"name": "a web page"}')
    refuse()
    (target / "manifest.json").unlink()
    blob.parent.mkdir()
    blob.write_text("of another store")
    refuse()
    (target / "manifest.json").write_text('{"schema_version": 1}')
    blob.unlink()
    os.mkfifo(blob)
    refuse()
    blob.unlink()
    blob.symlink_to("nowhere")
    refuse()
    said = ("declaration.py, which the pack is made from",)
    refused(tool, declaration, "--folder", tool.folder, texts=said)


def test_targets_in_each_others_way(tool):
    declaration, out = tool.declare(), tool.folder / "out"
    refused(tool, declaration, "-o", out, "--depfile", out, texts=("-o and --depfile are both",))
    inside = out / "manifest.json"
    for args in (["-o", inside], ["-o", tool.folder / "p", "--depfile", inside]):
        said = (f"{args[-2]} {inside} is in --folder {out}: expected a place outside of it",)
        refused(tool, declaration, "--folder", out, *args, texts=said)


def test_what_may_be_replaced(tool):
    out, where, rule = tool.folder / "out.pegapack", tool.folder / "out", tool.folder / "out.d"
    declaration = tool.declare()
    out.write_bytes(b"PEGAPACK, an old one")
    rule.write_bytes(b"")
    where.mkdir()
    args = ("-o", out, "--folder", where, "--depfile", rule, "-q", "-j", 1)
    for doc in ("a test", "another test"):
        declaration.write_text(declaration.read_text().replace("a test", doc))
        result = tool.run(declaration, *args)
        assert result.returncode == 0, result.stderr
        assert doc.encode() in out.read_bytes()
        assert doc.encode() in (where / "manifest.json").read_bytes()
    assert tool.leftovers() == []
