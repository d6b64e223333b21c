# SPDX-License-Identifier: Apache-2.0
"""The example of docs/packs.md is built as the document says; what it says stays true."""

import json
import re
import shlex

import numpy as np
from conftest import ROOT


def blocks(kind):
    text = (ROOT / "docs" / "packs.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_example(tool):
    for content in blocks("python"):
        name = re.match(r"# (\w+\.py)\n", content)
        assert name is not None, content
        (tool.folder / name[1]).write_text(content)
    (line,) = (line for block in blocks("sh") for line in block.splitlines())
    python, script, *args = shlex.split(line)
    assert python == "build/kernels-python/bin/python3"
    assert (ROOT / script).samefile(ROOT / "tools" / "kernels" / tool.script.name)
    result = tool.run(*args, "-j", 1)
    assert result.returncode == 0, result.stderr
    assert "engine.scale" in result.stdout  # the table

    assert (tool.folder / "engine.pegapack").read_bytes().startswith(b"PEGAPACK")
    manifest = json.loads((tool.folder / "engine" / "manifest.json").read_bytes())
    (function,) = manifest["functions"]
    assert function["name"] == "engine.scale"
    assert [v["target"] for v in function["variants"]] == ["sm_80", "sm_90a"]
    (case,) = function["golden"]
    expected = tool.folder / "engine" / "blobs" / case["args"]["y"]["expect"]["blob"]
    values = np.frombuffer(expected.read_bytes(), dtype="<f4")
    assert values.shape == (300,) and 2.4 < values.max() <= 2.5 and -2.5 <= values.min() < -2.4


def test_the_example_in_cuda(tool):
    for content in (*blocks("python"), *blocks("cuda")):
        name = re.match(r"(?:#|//) (\w+\.\w+)\n", content)
        assert name is not None, content
        (tool.folder / name[1]).write_text(content)
    result = tool.run("engine_cuda.py", "--folder", "engine", "-q", "-j", 1)
    assert result.returncode == 0, result.stderr
    manifest = json.loads((tool.folder / "engine" / "manifest.json").read_bytes())
    (function,) = manifest["functions"]
    assert [v["made_by"]["source"] for v in function["variants"]] == ["scale.cu"] * 2


def test_the_example_embeds_what_it_builds():
    (cmake,) = blocks("cmake")
    (line,) = blocks("sh")
    pack = re.search(r"PACK (\S+)", cmake)
    assert pack is not None and f"-o {pack[1]} " in line
