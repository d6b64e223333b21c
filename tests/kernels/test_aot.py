# SPDX-License-Identifier: Apache-2.0
"""PEGA_AOT: the build compiles the kernels and puts them into the library."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DECLARATION, HERE, ROOT, SCALE

CMAKE = os.environ.get("CMAKE") or shutil.which("cmake")
pytestmark = pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")


class Build:
    """A copy of what the build needs, with a small declaration in the place of pega's own."""

    def __init__(self, folder: Path) -> None:
        self.pega = folder / "pega"
        self.build = folder / "build"
        for part in ("tools/kernels", "cmake", "kernels"):
            shutil.copytree(
                ROOT / part, self.pega / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        self.declaration = self.pega / "kernels" / "qwen35.py"
        self.declaration.write_text(
            DECLARATION.format(before="", kernel="{}", golden="{}", function="{}", after="")
        )
        (self.pega / "kernels" / "scale.py").write_text(SCALE)

    def cmake(self, *args: object) -> subprocess.CompletedProcess:
        return subprocess.run([CMAKE, *map(str, args)], capture_output=True, text=True, timeout=300)

    def configure(self, *options: str) -> subprocess.CompletedProcess:
        return self.cmake(
            "-S",
            HERE / "aot",
            "-B",
            self.build,
            "-G",
            os.environ.get("GENERATOR", "Ninja"),
            f"-DPEGA={self.pega}",
            *options,
        )

    def make(self) -> bytes:
        result = self.cmake("--build", self.build)
        assert result.returncode == 0, result.stdout + result.stderr
        return subprocess.run([self.build / "app"], capture_output=True, check=True).stdout


@pytest.fixture
def aot(tmp_path: Path) -> Build:
    return Build(tmp_path)


def refused(result, *texts):
    assert result.returncode != 0
    said = " ".join(result.stderr.split())
    for text in texts:
        assert text in said, result.stderr
    assert "Traceback" not in said


def test_the_library_carries_what_the_sources_say(aot):
    result = aot.configure(f"-DPEGA_KERNELS_PYTHON={sys.executable}", "-DPEGA_AOT_TARGETS=sm_90")
    assert result.returncode == 0, result.stderr
    first = aot.make()
    pack = aot.build / "kernels" / "qwen35.pegapack"
    assert first == pack.read_bytes() and first.startswith(b"PEGAPACK")

    stamp = pack.stat().st_mtime_ns
    library = (aot.build / "libpega.so").stat().st_mtime_ns
    assert aot.make() == first
    assert (
        pack.stat().st_mtime_ns == stamp
        and (aot.build / "libpega.so").stat().st_mtime_ns == library
    )

    # Neither file is named in CMake: the tool says what the pack was made from.
    kernel = aot.pega / "kernels" / "scale.py"
    kernel.write_text(kernel.read_text().replace("* factor", "* factor * 2"))
    second = aot.make()
    assert second != first and second == pack.read_bytes()
    layout = aot.pega / "tools" / "kernels" / "pegapack" / "build.py"
    layout.write_text(layout.read_text().replace('"tool": "triton"', '"tool": "TRITON"'))
    assert b"TRITON" in aot.make()


def test_a_ready_pack_needs_no_triton(aot, tmp_path):
    ready = tmp_path / "ready.pegapack"
    ready.write_bytes(b"PEGAPACK and more")
    result = aot.configure(f"-DPEGA_AOT_PACK={ready}", "-DPEGA_KERNELS_PYTHON=/nonexistent")
    assert result.returncode == 0, result.stderr
    assert aot.make() == b"PEGAPACK and more"


def test_what_is_missing_is_told(aot, tmp_path):
    refused(
        aot.configure(),
        "there is no Python with Triton",
        "Run ./dev kernels",
        "PEGA_AOT_PACK a ready pack",
    )
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    refused(
        aot.configure(f"-DPEGA_KERNELS_PYTHON={bare}"),
        "No module named 'triton'",
        "Run ./dev kernels",
    )
    refused(
        aot.configure("-DPEGA_KERNELS_PYTHON=/nonexistent/python"), "/nonexistent/python cannot"
    )
    refused(aot.configure(f"-DPEGA_AOT_PACK={tmp_path}/nowhere"), "nowhere is not there")


def test_a_failing_kernel_fails_the_build(aot):
    kernel = aot.pega / "kernels" / "scale.py"
    kernel.write_text(kernel.read_text().replace("* factor", "* nothing"))
    assert aot.configure(f"-DPEGA_KERNELS_PYTHON={sys.executable}").returncode == 0
    result = aot.cmake("--build", aot.build)
    assert (
        result.returncode != 0
        and "build-pack: function 'scale' for sm_90" in result.stdout + result.stderr
    )
    assert not (aot.build / "kernels" / "qwen35.pegapack").exists()
