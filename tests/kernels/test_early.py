# SPDX-License-Identifier: Apache-2.0
"""Launches that begin early wait before they touch memory (docs/packs.md): in the packs' code."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

INSTRUCTION = re.compile(
    r"^\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)([^;\n]*)", re.MULTILINE
)
MEMORY = re.compile(r"LD|ST|ATOM|RED|UBLK|UTMA|CCTL|MEMBAR|SULD|SUST|SURED|TEX")
NOT_GLOBAL = re.compile(r"LDC|LDS|LDL|STS|STL|LDSM|STSM|ATOMS|REDUX")
BRANCH = re.compile(r"BRA|BRX|JMP|JMX|CALL|RET|BREAK|BSSY|BSYNC|KILL|BPT|RTT")
TARGET = re.compile(r"BRA\b.* 0x([0-9a-f]+)\s*$")
HARMLESS = re.compile(r"CCTL\.E\.PF2")  # a hint to the L2 cache


def instructions(cubin, entry):
    triton = pytest.importorskip("triton")
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip(f"{tool} is not there")
    command = [tool, "-sass", "-fun", entry, cubin]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return found(done.stdout)


def found(listing):
    """The instructions' names, "@" before a predicated wait, without branches to it or before it."""
    all_of_it = INSTRUCTION.findall(listing)
    waits = [int(at, 16) for at, _, name, _ in all_of_it if name == "ACQBULK"]
    names = []
    for _, predicate, name, rest in all_of_it:
        target = TARGET.match(name + rest)
        if target and waits and int(target.group(1), 16) <= waits[0]:
            continue
        names.append(("@" if predicate and name == "ACQBULK" else "") + name)
    return names


def wrong(code):
    """What a kernel that is launched early does that it must not."""
    if "@ACQBULK" in code:
        return "it waits under a predicate"
    if code.count("ACQBULK") != 1:
        return f"it waits {code.count('ACQBULK')} times"
    before = code[: code.index("ACQBULK")]
    touched = [
        c for c in before if MEMORY.match(c) and not NOT_GLOBAL.match(c) and not HARMLESS.match(c)
    ]
    if touched or "EXIT" in before:
        return f"before it waits: {touched or 'EXIT'}"
    branches = [c for c in before if BRANCH.match(c)]
    if branches:
        return f"it may not come to where it waits: {branches}"
    unchanging = [c for c in code if c.startswith("LDG") and "CONSTANT" in c]
    return f"as if nothing wrote it: {unchanging}" if unchanging else None


def early_variants():
    folder = ROOT / "build" / "kernels" / "qwen35"
    if not folder.exists():
        return
    for function in json.loads((folder / "manifest.json").read_bytes())["functions"]:
        for variant in function["variants"]:
            if variant.get("pdl"):
                name = function["name"].rsplit(".", 1)[-1]
                blob = folder / "blobs" / variant["blob"]
                entry = variant["entry"]
                yield pytest.param(blob, entry, id=f"{name}-{variant['target']}-{blob.name[:6]}")


@pytest.mark.parametrize("blob, entry", early_variants())
def test_what_is_launched_early_waits(blob, entry):
    assert wrong(instructions(blob, entry)) is None


def test_what_is_wrong_is_found():
    good = ["S2R", "LDC.64", "CCTL.E.PF2", "ACQBULK", "PREEXIT", "LDG.E.128", "STG.E.128", "EXIT"]
    assert wrong(good) is None
    assert "0 times" in wrong([c for c in good if c != "ACQBULK"])
    for early in (
        "LDG.E",
        "STG.E.128",
        "LD.E",
        "UBLKCP",
        "LDG.E.STRONG.GPU",
        "LDG.E.CONSTANT",
        "EXIT",
        "RED.E",
    ):
        assert "before it waits" in wrong([early, *good])
    for branch in ("BRA", "BRA.U", "BRX", "CALL.REL.NOINC", "BSYNC", "JMP"):
        assert "may not come to" in wrong([branch, *good])
        assert wrong([*good, branch]) is None
    listing = """
        /*0000*/                   S2R R0, SR_TID.X ;     /* 0x0000000000007919 */
        /*0010*/              @!P0 ACQBULK ;              /* 0x000000000000782e */
        /*0020*/               @P1 EXIT ;                 /* 0x000000000000194d */
"""
    assert found(listing) == ["S2R", "@ACQBULK", "EXIT"]
    assert "under a predicate" in wrong(found(listing))
    plain = listing.replace("@!P0", "    ")
    assert wrong(found(plain)) is None
    for branch in ("BRA 0x0", "BRA 0x10", "BRA.U !UP0, 0x10"):
        assert wrong(found(plain.replace("S2R R0, SR_TID.X", branch))) is None
    for branch in ("BRA 0x20", "BRA.U UP1, 0x120", "BRX R2 -0x20", "CALL.REL.NOINC 0x10"):
        assert "may not come" in wrong(found(plain.replace("S2R R0, SR_TID.X", branch)))
    assert "nothing wrote it" in wrong([*good, "LDG.E.64.CONSTANT"])
