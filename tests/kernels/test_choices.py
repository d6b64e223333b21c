# SPDX-License-Identifier: Apache-2.0
"""The table of measured times that libpega has: of a good file, and up to date."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "kernels" / "choices" / "qwen35-prefill-sm_90.json"
TOOL = ROOT / "tools" / "choices.py"
BUILT_IN = ROOT / "src" / "ops" / "qwen35" / "choices_built_in.inl"


def run(table, output, *more):
    command = [sys.executable, TOOL, table, "-o", output, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def points(output):
    """Of what was written: how many rows it has."""
    tokens = output.read_text().partition("built_in_tokens[] = {")[2].partition("}")[0]
    return len(tokens.split(","))


def test_table_is_what_the_schema_says():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(TABLE.read_text()),
                        json.loads((ROOT / "docs" / "choices.schema.json").read_text()))


def test_built_in_table_is_the_files():
    assert run(TABLE, BUILT_IN, "--check").returncode == 0


def test_another_table_is_found(tmp_path):
    table = json.loads(TABLE.read_text())
    table["rows"][1]["us"]["triton_chunked"] *= 1.01
    other = tmp_path / TABLE.name
    other.write_text(json.dumps(table))
    result = run(other, BUILT_IN, "--check")
    assert result.returncode == 1
    assert "run" in result.stdout and "again" in result.stdout


def test_what_is_provided_is_left_out(tmp_path):
    output = tmp_path / "out.inl"
    assert run(TABLE, output).returncode == 0
    table = json.loads(TABLE.read_text())
    table["rows"] = [row | {"us": {"flashinfer": 1.0}} for row in table["rows"][:1]]
    table["rows"] += json.loads(TABLE.read_text())["rows"][1:2]
    other = tmp_path / "table.json"
    other.write_text(json.dumps(table))
    assert run(other, output).returncode == 0
    assert points(output) == 1


def test_a_long_table_is_thinned(tmp_path):
    """Of many rows those are taken from which the choices at all of them come out right."""
    rows = []
    for heads in (8, 16, 32, 48, 64, 96):
        for power in range(0, 68):
            tokens = round(2 ** (power / 4)) if power > 8 else power + 1
            us = {"cuda_recurrent": 4.0 + tokens * 1.5, "triton_chunked": 20.0 + tokens * heads / 800,
                  "triton_fused": 12.0 + tokens * heads / 500}
            rows.append({"key_heads": heads // 2, "value_heads": heads, "sequences": 1, "tokens": tokens, "us": us})
    rows = list({(row["value_heads"], row["tokens"]): row for row in rows}.values())
    table = json.loads(TABLE.read_text()) | {"rows": rows}
    other, output = tmp_path / "table.json", tmp_path / "out.inl"
    other.write_text(json.dumps(table))
    result = run(other, output)
    assert result.returncode == 0, result.stderr
    kept = points(output)
    assert 12 <= kept <= 150 and len(rows) > 300
    assert f"{kept} of {len(rows)} rows: 0 choices more than 3 % slower" in result.stdout
