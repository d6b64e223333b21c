# SPDX-License-Identifier: Apache-2.0
"""The peers with a Python that has torch: $PEGA_TORCH_PYTHON, or this one."""

import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import talk

PYTHON = os.environ.get("PEGA_TORCH_PYTHON", sys.executable)
HEADS = {"key_heads": 2, "value_heads": 4}
CASES = [
    {"op": "prefill", "sequences": 2, "tokens": 70, "threads": 1, **HEADS},
    {"op": "decode", "batch": 3, "threads": 2, **HEADS},
    {"op": "solve", "tokens": 128, "value_heads": 3, "threads": 1},
]


# What is asked of torch beside a peer, in one process: importing it takes most of the time.
PROGRAM = """
import copy
import torch
import torch_cpu
import _common as common

print("== gpu")
print(torch.cuda.is_available())

peer = torch_cpu.TorchCpu()
peer.open()

print("== threads")
for threads in (1, 2):
    peer.ways("cpu", {"op": "decode", "batch": 1, "key_heads": 1, "value_heads": 1, "threads": threads})
    print(torch.get_num_threads())

# Ways in which something can be called wrongly.

def right(data):
    pass

def g_is_linear(data):
    data.g = data.g.exp()

def no_g(data):
    data.g = data.g * 0

def heads_in_turns(data):
    data.v = data.v.flip(1)

def of_states(change):
    def changed(output, states):
        if isinstance(states, list):
            return output, [change(state) for state in states]
        return output, change(states)
    return changed

FOUND = {
    "transposed": of_states(lambda state: state.mT),
    "nan": of_states(lambda state: state * float("nan")),
    "of another shape": of_states(lambda state: state[..., :64]),
}

def tell(word, case):
    print(f"{word}:", peer.ways("cpu", case)["torch"].reason)

for case, name in (({"op": "prefill", "sequences": 1, "tokens": 64}, "run_prefill"),
                   ({"op": "decode", "batch": 3}, "run_decode")):
    print("==", name)
    case |= {"key_heads": 2, "value_heads": 4, "threads": 1}
    run = getattr(peer, name)
    for change in (right, g_is_linear, no_g, heads_in_turns):
        def changed(data):
            data = copy.copy(data)
            change(data)
            return run(data)
        setattr(peer, name, changed)
        tell(change.__name__, case)
    for word, change in FOUND.items():
        setattr(peer, name, lambda data: change(*run(data)))
        tell(word, case)
print("== run_solve")
case = {"op": "solve", "tokens": 64, "value_heads": 2, "threads": 1}
run = peer.run_solve
tell("right", case)
peer.run_solve = lambda a_tril: lambda: run(a_tril)().mT
tell("transposed", case)
peer.run_solve = lambda a_tril: lambda: run(-a_tril)()
tell("of I - A", case)

print("== data")
data = common.decode_data(torch, 500, 2, 4, "cpu", sets=2)
g = -data.a_log.exp() * torch.nn.functional.softplus(data.a.float() + data.dt_bias.float())
print(bool((g - data.g).abs().max() < 1e-6), bool((data.b.float().sigmoid() - data.beta).abs().max() < 1e-6))
print(bool(-0.101 < data.g.min() < -0.09), bool(-0.01 < data.g.max() < 0))
print(bool(0 < data.beta.min() < 0.01), bool(0.99 < data.beta.max() < 1))
print(tuple(data.sets.shape) == (2, 500, 4, 128, 128))
data = common.prefill_data(torch, (64, 5), 2, 4, "cpu")
print(bool((data.q.float().norm(dim=-1) - 1).abs().max() < 4e-3), data.starts.tolist() == [0, 64, 69])
a = common.solve_data(torch, 130, 2, "cpu")
i, j = torch.arange(130)[:, None, None] % 64, torch.arange(64)
print(tuple(a.shape) == (130, 2, 64), bool(not a[(i <= j).expand_as(a)].any()), bool(a[63].abs().max() > 0))
"""


@pytest.fixture(scope="module")
def sections():
    """What PROGRAM prints: the lines under each title."""
    program = f"import sys; sys.path.insert(0, {str(talk.FOLDER)!r})\n{PROGRAM}"
    text = subprocess.run([PYTHON, "-B", "-c", program], check=True, stdout=subprocess.PIPE,
                          text=True).stdout
    parts = (part.splitlines() for part in text.split("== ")[1:])
    return {lines[0]: lines[1:] for lines in parts}


@pytest.fixture(scope="module")
def peer():
    peer = talk.start("torch_cpu", PYTHON)
    yield peer
    assert peer.end() == 0


def prepare(peer, case):
    return peer.ask({"do": "prepare", "part": "cpu", "case": case})


def test_cases_on_the_cpu(peer):
    hello = peer.ask({"do": "hello"})
    assert hello["name"] == "torch" and hello["parts"] == ["cpu"] and hello["version"]
    for case in CASES:
        prepared = prepare(peer, case)
        assert prepared["names"] == ["torch"]
        limits = {"output_rms": 3e-3, "state_rms": 1e-4, "max": 1e-5}
        assert all(0 < error < limits[name] for name, error in prepared["errors"]["torch"].items())
        for how in ("wall", "host"):
            times = peer.ask({"do": "measure", "name": "torch", "how": how, "samples": 3})["us"]
            assert len(times) == 3 and all(time > 0 for time in times)
        assert peer.ask({"do": "measure", "name": "torch", "how": "graph", "samples": 3}) == {
            "left_out": "torch is not timed by 'graph'"}
        assert peer.ask({"do": "drop"}) == {}


@pytest.mark.parametrize("changed, reason", [
    ({"op": "dance"}, "a case has an 'op' of prefill, decode, solve, got 'dance'"),
    ({"op": ["solve"]}, None),
    ({"threads": 0}, "a case has a number 'threads' of at least 1, got 0"),
    ({"tokens": 100}, "torch solves whole chunks of 64 tokens alone"),
    ({"value_heads": "x"}, "a case has a number 'value_heads' of at least 1, got 'x'"),
])
def test_cases_that_cannot_be(peer, changed, reason):
    answer = prepare(peer, {**CASES[2], **changed})
    assert list(answer) == ["left_out"]
    assert reason is None or answer["left_out"] == reason
    assert prepare(peer, CASES[2])["names"] == ["torch"]


def test_a_case_has_its_threads(sections):
    assert sections["threads"] == ["1", "2"]


@pytest.mark.parametrize("name, count", [("run_prefill", 7), ("run_decode", 7), ("run_solve", 3)])
def test_what_is_wrong_is_left_out(sections, name, count):
    lines = sections[name]
    assert len(lines) == count and lines[0] == "right: None"
    for line in lines[1:]:
        assert "it is wrong on a small case" in line or (
            line.startswith("of another shape: its state has the shape"))


def test_inputs_are_what_they_say(sections):
    words = " ".join(sections["data"]).split()
    assert words == ["True"] * 12


def test_gpu_peers_measure_what_is_right():
    """All but what they measure, which plain torch stands in for."""
    program = pathlib.Path(__file__).resolve().parent / "gpu_peers_on_cpu.py"
    text = subprocess.run([PYTHON, "-B", str(program), str(talk.FOLDER)], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    lines = [line.split(": ", 3) for line in text.splitlines()]
    lines = [line for line in lines if len(line) == 4]
    ways = {line[1] for line in lines}
    assert ways == {"FLA", "FlashInfer", "FlashInfer CP", "FlashInfer [V,K]", "FlashInfer [K,V]",
                    "Triton launcher, a kernel of the same parameters", "tvm-ffi cubin_launcher"}
    expected = {
        "as it is": "right",
        "gate": "it is wrong on a small case",
        "state": "it is wrong on a small case",
        "sign": "it is wrong on a small case",
        "launch": "the launch fails",
    }
    for what, way, runs, verdict in lines:
        how = what.split(", ")[1]
        if how == "cp":
            assert verdict == ("ValueError: CP is not for this" if way == "FlashInfer CP" else "right")
        elif way.startswith("Triton") and how == "sign":
            assert verdict == "what its kernel leaves is wrong"
        else:
            assert verdict.startswith(expected[how]), (what, way, verdict)
        assert (verdict == "right") == (runs != "0 runs")
    assert len(lines) == 47
    several = {(line[0].split(",")[0], line[1]) for line in lines if line[2] not in ("0 runs", "1 runs")}
    assert several == {("decode", "FLA"), ("solve", "FLA"), ("decode", "FlashInfer [V,K]"),
                       ("decode", "FlashInfer [K,V]")}
    assert text.splitlines()[-3:] == [
        "host [3.0, 3.0, 3.0]",
        "no kernel: pega bench tells of no kernel: it takes one from the file of a pack, --pack",
        "no kernel: the kernel has parameters of [8, 8, 8] bytes"]
    same = [line for line in text.splitlines() if line.startswith(("same", "left"))]
    assert same == 2 * [
        "same [None] ['FLA']", "same of FLA True", "left b''",
        "same [None, None] ['FlashInfer', 'FlashInfer CP']", "same of FlashInfer True",
        "same of FlashInfer CP True", "left b''"]


def test_gpu_peers_say_that_there_is_no_gpu(sections):
    if sections["gpu"] != ["False"]:
        pytest.skip("there is a GPU")
    peers = [talk.start(program, PYTHON) for program in talk.GPU]  # at the same time
    for peer in peers:
        answer = peer.ask({"do": "hello"})
        assert answer["left_out"] == "torch sees no CUDA device"
        for part in ("prefill", "decode", "solve", "launch", "cpu"):
            prepared = peer.ask({"do": "prepare", "part": part, "case": {"tokens": 64}})
            assert list(prepared) == ["left_out"]
        assert peer.end() == 0
