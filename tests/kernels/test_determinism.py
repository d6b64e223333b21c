# SPDX-License-Identifier: Apache-2.0
"""Equal inputs give equal bytes, wherever they are built."""

import shutil
from pathlib import Path

from conftest import HERE, Tool


def build(
    tool: Tool, declaration: Path, workers: int, *more: str, cwd: Path | None = None
) -> tuple[bytes, dict]:
    out = tool.folder / "out.pegapack"
    folder = tool.folder / "out"
    result = tool.run(
        declaration, "-o", out, "--folder", folder, "-j", workers, *more, cwd=cwd or tool.folder
    )
    assert result.returncode == 0, result.stderr
    return out.read_bytes(), {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def two_places(tmp_path: Path) -> list[Tool]:
    return [Tool(tmp_path / "here"), Tool(tmp_path / "quite another place" / "of another length")]


def test_two_places_give_the_same_bytes(tmp_path):
    results = []
    for workers, tool in enumerate(two_places(tmp_path), 1):
        sources = tool.folder / "tests" / "kernels"
        shutil.copytree(HERE, sources)
        cwd = tool.folder if workers == 1 else sources
        results.append(
            build(
                tool,
                sources / "abi.py",
                workers,
                "--targets",
                "sm_80,sm_90,sm_100",
                "--cache",
                str(tool.folder / f"cache {workers}"),
                cwd=cwd,
            )
        )
    assert results[0] == results[1]
    assert len(results[0][1]) > 50
    for tool in two_places(tmp_path / "again"):
        assert str(tool.folder).encode() not in results[0][0]


def test_line_information_would_break_it(tmp_path):
    """So the test above can fail: it is this that the tool turns off."""
    results = [build(tool, tool.declare(), 1, "--line-info") for tool in two_places(tmp_path)]
    assert results[0] != results[1]


def test_what_the_environment_says_changes_nothing(tmp_path):
    tools = two_places(tmp_path)
    plain = build(tools[0], tools[0].declare(), 1)
    env = tools[1].environment
    tools[1].environment = lambda: {
        **env(),
        "TRITON_DISABLE_LINE_INFO": "0",
        "TRITON_DEFAULT_FP_FUSION": "0",
        "DISABLE_PTXAS_OPT": "1",
        "PTXAS_OPTIONS": "--maxrregcount=16",
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
    }
    assert build(tools[1], tools[1].declare(), 1) == plain


def test_what_is_there_already_is_left_alone(tool):
    declaration = tool.declare()
    build(tool, declaration, 1)
    files = [p for p in tool.folder.rglob("out*") if p.is_file()] + list(
        (tool.folder / "out").rglob("*")
    )
    before = {p: p.stat().st_mtime_ns for p in files}
    build(tool, declaration, 1)
    assert {p: p.stat().st_mtime_ns for p in files} == before
    declaration.write_text(declaration.read_text().replace("a test", "another test"))
    build(tool, declaration, 1)
    assert (tool.folder / "out.pegapack").stat().st_mtime_ns != before[tool.folder / "out.pegapack"]
    assert tool.leftovers() == []
