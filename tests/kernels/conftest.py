# SPDX-License-Identifier: Apache-2.0
"""How the tests run build-pack: as its users do, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "kernels"))

SCALE = """
import triton
import triton.language as tl


@triton.jit
def scale(x, y, n, factor, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n) * factor, mask=at < n)
"""

DECLARATION = """
from pegapack import *

{before}
KERNEL = dict(
    source="scale.py", function="scale",
    arguments=dict(x=Arg("*fp32"), y=Arg("*fp32"), n=Arg("i32"), factor=Arg("fp32")),
    constexprs=dict(BLOCK=128), grid=["cdiv(n, 128)", "1", "1"],
    options=Options(num_warps=4, enable_fp_fusion=True))
KERNEL.update({kernel})
GOLDEN = dict(
    name="small",
    args=dict(x=Memory("float32", [5], fill=Uniform(seed=1, low=0, high=1)),
              y=Output("float32", [5]), n=5, factor=2.0),
    reference=lambda args: dict(y=args["x"] * 2))
GOLDEN.update({golden})
FUNCTION = dict(
    name="scale", doc="y = factor x",
    params=[pointer("x", "source"), pointer("y", "target", output=True),
            integer("n", "elements", min=0, max=9999), floating("factor", "by what"), stream()],
    kernels=[Kernel(**KERNEL)], golden=[Golden(**GOLDEN)])
FUNCTION.update({function})
PACK = Pack(name="scale", doc="a test", functions=[Function(**FUNCTION)], targets=["sm_90"])
{after}
"""


class Tool:
    """A folder with a copy of the tool and of sources, which builds packs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.temporary = folder / "tmp"
        self.home.mkdir(parents=True)
        self.temporary.mkdir()
        shutil.copytree(
            ROOT / "tools" / "kernels",
            folder / "tools" / "kernels",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        self.script = folder / "tools" / "kernels" / "build-pack"

    def declare(
        self,
        *,
        source: str = SCALE,
        before: str = "",
        kernel: str = "{}",
        golden: str = "{}",
        function: str = "{}",
        after: str = "",
    ) -> Path:
        """Writes a declaration that is good but for what is given."""
        (self.folder / "scale.py").write_text(textwrap.dedent(source))
        path = self.folder / "declaration.py"
        path.write_text(
            DECLARATION.format(
                before=before, kernel=kernel, golden=golden, function=function, after=after
            )
        )
        return path

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.temporary)}

    def run(
        self, *args: object, python: list[str] | None = None, **options
    ) -> subprocess.CompletedProcess:
        options = {"cwd": self.folder, "env": self.environment(), **options}
        return subprocess.run(
            [*(python or [sys.executable]), str(self.script), *map(str, args)],
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )

    def leftovers(self) -> list[str]:
        """Half-written files and temporary folders."""
        return [
            str(p)
            for p in (
                *self.folder.rglob("*.part"),
                *self.folder.rglob("*.old"),
                *self.temporary.iterdir(),
            )
        ]


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path / "project")


@pytest.fixture(scope="session")
def abi(tmp_path_factory) -> Path:
    """The folder form of the tests' pack, for two targets that differ in everything."""
    tool = Tool(tmp_path_factory.mktemp("abi") / "project")
    result = tool.run(
        HERE / "abi.py", "--folder", tool.folder / "abi", "--targets", "sm_80,sm_90", "-j", 2
    )
    assert result.returncode == 0, result.stderr
    return tool.folder / "abi"
