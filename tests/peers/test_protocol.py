# SPDX-License-Identifier: Apache-2.0
"""The conversation of a peer with `pega bench`; no torch is needed."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import talk

common = talk.load("_common")


class Sleeper(common.Peer):
    """Three ways: one that works, one that was wrong, one that fails when it runs."""

    name = "sleeper"
    parts = ("cpu", "prefill")

    def __init__(self):
        self.calls = 0
        self.opened = 0

    def open(self):
        self.opened += 1
        self.clock = common.CpuClock()
        return "1.0"

    def work(self):
        self.calls += 1

    def ways(self, part, case):
        (self.size,) = common.sizes(case, "size")

        def wrong():
            raise common.LeftOut("it is wrong")

        def fails():
            raise ValueError("no such\nkernel")

        return {
            "good": common.judged(lambda: {"rms": 0.001}, [self.work]),
            "wrong": common.judged(wrong, [self.work]),
            "fails": common.Way([fails]),
        }


@pytest.fixture
def conversation():
    return common.Conversation(Sleeper())


def ask(conversation, **request):
    return conversation.answer(json.dumps(request))


def prepare(conversation, **case):
    return ask(conversation, do="prepare", part="cpu", case=case or {"size": 3})


def test_hello(conversation):
    expected = {"name": "sleeper", "version": "1.0", "parts": ["cpu", "prefill"]}
    assert ask(conversation, do="hello") == expected
    assert ask(conversation, do="hello") == expected
    assert conversation.peer.opened == 1


def test_hello_where_it_cannot_be_opened(conversation):
    def fails():
        raise ModuleNotFoundError("No module named 'sleep'")

    conversation.peer.open = fails
    assert ask(conversation, do="hello") == {"name": "sleeper", "left_out": "No module named 'sleep'"}
    assert prepare(conversation) == {"left_out": "No module named 'sleep'"}


def test_a_case(conversation):
    assert prepare(conversation) == {"names": ["good", "wrong", "fails"],
                                     "errors": {"good": {"rms": 0.001}}}
    assert conversation.peer.calls == common.WARM_UPS
    times = ask(conversation, do="measure", name="good", how="wall", samples=4)["us"]
    assert len(times) == 4 and all(time >= 0 for time in times)
    assert conversation.peer.calls > common.WARM_UPS + 4  # short calls: many a sample
    assert ask(conversation, do="measure", name="wrong", how="wall", samples=1) == {
        "left_out": "it is wrong"}
    assert ask(conversation, do="measure", name="fails", how="wall", samples=1) == {
        "left_out": "ValueError: no such"}
    assert ask(conversation, do="drop") == {}
    assert ask(conversation, do="measure", name="good", how="wall", samples=1) == {
        "left_out": "'good' is not prepared"}


def test_another_case_drops_the_one_before(conversation):
    prepare(conversation)
    assert prepare(conversation, other=1) == {
        "left_out": "a case has a number 'size' of at least 1, got None"}
    assert "left_out" in ask(conversation, do="measure", name="good", how="wall", samples=1)


@pytest.mark.parametrize("size", [0, -1, "3", 2.0, True, None])
def test_sizes_are_numbers(conversation, size):
    assert prepare(conversation, size=size) == {
        "left_out": f"a case has a number 'size' of at least 1, got {size!r}"}


@pytest.mark.parametrize("request_, reason", [
    ({"do": "dance"}, "there is no request 'dance'"),
    ({}, "there is no request 'None'"),
    ({"do": ["hello"]}, "there is no request '['hello']'"),
    ({"do": "answer"}, "there is no request 'answer'"),
    ({"do": "prepare", "part": "decode", "case": {}}, "sleeper has no part 'decode'"),
    ({"do": "prepare", "part": ["cpu"], "case": {}}, "sleeper has no part '['cpu']'"),
    ({"do": "prepare", "part": "cpu"}, "expected a case, got None"),
    ({"do": "measure"}, "'None' is not prepared"),
    ({"do": "measure", "name": "good", "how": "graph", "samples": 1}, "sleeper is not timed by 'graph'"),
    ({"do": "measure", "name": "good", "how": "wall", "samples": 0},
     "expected 1 to 100000 samples, got 0"),
    ({"do": "measure", "name": "good", "how": "wall"}, "expected 1 to 100000 samples, got None"),
    ({"do": "measure", "name": "good", "how": "wall", "samples": 10**9},
     "expected 1 to 100000 samples, got 1000000000"),
])
def test_requests_that_cannot_be(conversation, request_, reason):
    if request_.get("name") == "good":
        prepare(conversation)
    assert ask(conversation, **request_) == {"left_out": reason}


@pytest.mark.parametrize("line", ["", "junk", "[]", "3", '{"do": "hello"', '"hello"', "\0", "{}{}",
                                  "[" * 100_000])
def test_lines_that_are_no_requests(conversation, line):
    answer = conversation.answer(line)
    assert list(answer) == ["left_out"] and isinstance(answer["left_out"], str)
    assert ask(conversation, do="hello")["name"] == "sleeper"


def test_a_reason_is_one_line():
    assert common.why(RuntimeError("one\ntwo")) == "RuntimeError: one"
    assert common.why(RuntimeError("")) == "RuntimeError:"
    assert common.why(common.LeftOut("")) == "LeftOut"
    assert len(common.why(RuntimeError("x" * 10_000))) == 300


def test_turns():
    seen = []
    way = common.Way([lambda n=n: seen.append(n) for n in range(3)])
    for _ in range(5):
        way.run()
    assert seen == [0, 1, 2, 0, 1]


def test_results_are_kept_for_as_long_as_their_turn():
    memory = []  # what lies there, or None where it is free

    class Result:
        def __init__(self):
            self.place = memory.index(None) if None in memory else len(memory)
            memory[self.place:self.place + 1] = [self.place]
            places.append(self.place)

        def __del__(self):
            memory[self.place] = None

    for sets, expected in ((1, 1), (3, 4)):
        del memory[:]
        places = []
        way = common.Way([lambda: Result()] * sets)
        for _ in range(12):
            way.run()
        assert len(set(places)) == expected
        del places[:], way
        way = common.Way([lambda: Result() if Graph.recording else None] * sets)
        gpu_clock().row(way, 1)
        assert len(set(places)) == expected


@pytest.mark.parametrize("rotate, size, sets, rotated", [
    (0, 1, 1, False),
    (1000, 100, 10, True),
    (1000, 99, 11, True),
    (1000, 3000, 2, True),
    (1000, 1, common.MAX_SETS, False),
])
def test_calls_go_through_as_much_as_is_asked_for(conversation, rotate, size, sets, rotated):
    peer = conversation.peer

    def ways(part, case):
        return {"good": common.Way([peer.work] * peer.sets_of(size))}

    peer.ways = ways
    request = {"do": "prepare", "part": "cpu", "case": {}}
    answer = ask(conversation, **request, **({"rotate_bytes": rotate} if rotate else {}))
    assert answer == {"names": ["good"], **({"rotated": True} if rotated else {})}
    assert len(conversation.ways["good"].runs) == sets
    # What was asked for one case is not for the next.
    assert ask(conversation, **request) == {"names": ["good"]}
    assert len(conversation.ways["good"].runs) == 1
    assert "left_out" in ask(conversation, **request, rotate_bytes="much")


class Device:
    """Its clock and the host's, in us: it begins what it has when that is put on it, or later."""

    REPLAY = 5.0  # us that the host takes to put a graph on it

    host = done = 0.0

    @classmethod
    def put(cls, us, takes=0.0):
        cls.host += takes
        cls.done = max(cls.done, cls.host) + us


class Event:
    def __init__(self):
        self.at = None

    def record(self):
        Device.put(0)
        self.at = Device.done

    def query(self):
        return self.at <= Device.host

    def synchronize(self):
        Device.host = max(Device.host, self.at)

    def elapsed_time(self, end):
        return (end.at - self.at) / 1e3


class Graph:
    FIRST = 0.0  # us that a graph's first replay takes besides
    recording = None

    def __init__(self):
        self.calls, self.replayed = [], 0

    def __enter__(self):
        Graph.recording = self

    def __exit__(self, *ignored):
        Graph.recording = None

    def replay(self):
        Device.host += Device.REPLAY
        if not self.replayed:
            Device.put(self.FIRST)
        self.replayed += 1
        for us in self.calls:
            Device.put(us)


class Cuda:
    """What GpuClock uses of torch.cuda; a call is a number of us."""

    CUDAGraph = Graph

    def Event(self, enable_timing):
        return Event()

    def graph(self, graph):
        return graph

    def synchronize(self):
        Device.host = max(Device.host, Device.done)

    def empty_cache(self):
        pass


class Memory:
    def zero_(self):
        call(1.2)()


def call(us):
    def run():
        if Graph.recording is not None:
            Graph.recording.calls.append(us)
        else:
            Device.put(us)
            call.made += 1

    return run


call.made = 0


def gpu_clock(batch=20):
    torch = {"cuda": Cuda(), "uint8": None, "empty": lambda self, *args, **kwargs: Memory()}
    return common.GpuClock(type("torch", (), torch)(), batch)


def test_a_replay_is_the_devices_time_alone(monkeypatch):
    clock, way = gpu_clock(), common.Way([call(2)])
    assert clock.graph(way, 3) == pytest.approx([2, 2, 2])
    assert clock.fills == common.LEAD_FILLS
    # A host that is slower than the lead is long.
    monkeypatch.setattr(Device, "REPLAY", 70.0)
    assert clock.graph(way, 3) == pytest.approx([2, 2, 2])
    assert clock.fills > common.LEAD_FILLS
    # There is an end to it.
    monkeypatch.setattr(Device, "REPLAY", 1e6)
    assert len(clock.graph(way, 3)) == 3 and clock.fills == common.MOST_FILLS


def test_gpu_time_is_of_one_call():
    clock, way = gpu_clock(), common.Way([call(7), call(9)])
    assert sorted(set(clock.graph(way, 4))) == pytest.approx([7, 9])
    assert clock.row(way, 3) == pytest.approx([8, 8, 8])
    assert sorted(set(clock.eager(way, 4))) == pytest.approx([7, 9])
    assert clock.row(common.Way([call(5)]), 2) == pytest.approx([5, 5])
    sets_of_three = common.Way([call(3), call(4), call(5)])
    assert clock.row(sets_of_three, 1) == pytest.approx([4])
    assert len(sets_of_three.graphs["row"].calls) == 12


def test_no_sample_is_the_first_replay_of_its_graph(monkeypatch):
    monkeypatch.setattr(Graph, "FIRST", 30.0)
    clock, way = gpu_clock(), common.Way([call(us) for us in (3, 3, 3, 3)])
    assert clock.graph(way, 8) == pytest.approx([3] * 8)
    assert clock.row(way, 2) == pytest.approx([3, 3])


def test_graphs_are_kept_for_a_case():
    clock, way = gpu_clock(), common.Way([call(7)])
    clock.graph(way, 1), clock.row(way, 1)
    before = call.made, dict(way.graphs)
    clock.graph(way, 5), clock.row(way, 5)
    assert (call.made, way.graphs) == before
    assert len(way.graphs["row"].calls) == common.ROW


def test_host_time_is_of_one_call_of_a_batch():
    clock, way = gpu_clock(batch=50), common.Way([call(1)])
    before = call.made
    times = clock.host(way, 3)
    assert call.made - before == 150 and len(times) == 3
    assert all(0 < us < 1e4 for us in times)


# --- programs ---


def test_what_others_print_is_no_answer(tmp_path):
    program = tmp_path / "chatty.py"
    program.write_text(textwrap.dedent(f"""
        import os, sys
        sys.path.insert(0, {str(talk.FOLDER)!r})
        import _common as common

        class Chatty(common.Peer):
            name, parts = "chatty", ("cpu",)

            def open(self):
                print("printed")
                os.write(1, b"written\\n")
                os.system("echo by a child")
                assert {str(talk.FOLDER)!r} not in sys.path
                self.clock = common.CpuClock()
                return "1"

        sys.exit(common.serve(Chatty()))
    """))
    peer = talk.start(program)
    assert peer.ask({"do": "hello"}) == {"name": "chatty", "version": "1", "parts": ["cpu"]}
    assert peer.ask("junk")["left_out"].startswith("a request is a line of JSON")
    peer.process.stdin.close()
    printed = peer.process.stderr.read()
    assert peer.process.wait() == 0
    assert all(word in printed for word in ("printed", "written", "by a child"))


@pytest.mark.parametrize("program", talk.PROGRAMS)
def test_a_program_without_its_package_says_so(program, tmp_path):
    # A Python that has nothing.
    peer = talk.start(program, PYTHONPATH=str(tmp_path))
    answer = peer.ask({"do": "hello"})
    if "parts" in answer:
        pytest.skip(f"this Python has what {program} needs")
    assert set(answer) == {"name", "left_out"} and answer["left_out"]
    prepared = peer.ask({"do": "prepare", "part": "prefill", "case": {"sequences": 1, "tokens": 64}})
    assert set(prepared) == {"left_out"}
    assert set(peer.ask({"do": "measure", "name": "x", "how": "graph", "samples": 1})) == {"left_out"}
    assert peer.ask({"do": "drop"}) == {}
    assert peer.end() == 0


def test_every_program_is_installed():
    """`pega bench` starts whatever lies there whose name does not begin with '_'."""
    programs = sorted(path.stem for path in talk.INSTALLED.glob("*.py") if path.name[0] != "_")
    assert programs == sorted(talk.PROGRAMS)
    assert {path.name for path in talk.FOLDER.glob("*.py")} == {
        path.name for path in talk.INSTALLED.glob("*.py")}
    for path in talk.FOLDER.glob("*.py"):
        assert path.read_bytes() == (talk.INSTALLED / path.name).read_bytes()


# --- FlashInfer's kernels, compiled ahead ---


@pytest.fixture
def ahead():
    before = dict(sys.modules), list(sys.meta_path)
    sys.modules["_common"] = common
    yield talk.load("_flashinfer_ahead")
    sys.modules.clear()
    sys.modules.update(before[0])
    sys.meta_path[:] = before[1]


def test_the_compiler_is_stood_in_for(ahead):
    assert ahead.needed()
    sys.meta_path.insert(0, ahead.StandIn())
    import cutlass.cute as cute
    from cutlass.cute.nvgpu import warp

    @cute.jit
    def add(x: cute.Tensor, y: cute.Tensor | None, n: cute.Constexpr[int]) -> warp.Atom:
        return x + y + n

    class Kernel(cute.Base):
        pass

    assert add(1, 2, 3) == 6 and Kernel.__mro__ == (Kernel, object)
    assert cute.BFloat16 is cute.BFloat16 and cute.BFloat16 is not cute.Float32
    assert hash(cute.GPUArch("sm_90a")) and cute.BFloat16 is not None
    assert "not installed" in repr(cute.BFloat16)


FAKES = {
    "tvm_ffi.py": """
        class Module:
            def __getitem__(self, name):
                if name.endswith("_1"):
                    raise AttributeError(name)
                return lambda *args: (name, args)

        def load_module(path):
            return Module()
    """,
    "torch.py": "int64 = 'int64'\n",
    "flashinfer/__init__.py": "raise ImportError('all of it')\n",
    "flashinfer/version.py": "__version__ = '9.9'\n",
    "flashinfer/gdn_kernels/__init__.py": "",
    "flashinfer/gdn_kernels/delta_rule_dsl/__init__.py": "",
    "flashinfer/gdn_kernels/delta_rule_dsl/custom_compile_cache.py": """
        import cutlass.cute as cute
        _in_mem_compile_cache = {}

        def _compile_options_key(options):
            return options

        def cached_compile(kernel, *args, compile_options=None):
            raise RuntimeError("it compiles")
    """,
    "flashinfer/gdn_kernels/delta_rule_dsl/delta_rule_sm90.py": """
        import cutlass
        from .custom_compile_cache import _in_mem_compile_cache, cached_compile

        class _FullyFusedDeltaRuleSm90:
            needs_alpha = needs_beta = True
            needs_checkpointing = use_state_indices = False
            dtype, state_dtype, cu_seqlens_dtype = cutlass.BFloat16, cutlass.Float32, "int64"

            def __init__(self, needs_init_state=False, **more):
                self.needs_init_state = needs_init_state
                self.__dict__.update(more)

            def _get_compile_key(self):
                return "key"

        def run(**how):
            kernel = _FullyFusedDeltaRuleSm90(**how)
            return cached_compile(kernel, 1, 2, compile_options="options")(3, 4)
    """,
    "flashinfer/gdn_kernels/delta_rule_dsl/delta_rule_cp_sm90.py": """
        from .custom_compile_cache import cached_compile

        class CPDeltaRuleFixupSimtSm90:
            needs_initial_state, rows_per_cta = False, 8

            def _get_compile_key(self):
                return "fixup"

        class New(CPDeltaRuleFixupSimtSm90):
            pass

        def run(kind=CPDeltaRuleFixupSimtSm90):
            return cached_compile(kind())()
    """,
    "flashinfer/gdn_kernels/gdn_decode_pretranspose.py": """
        def build_and_load_cute_dsl_kernel(module, name, compile_step, extra_key_files=()):
            raise RuntimeError("it compiles")

        def run(name):
            return build_and_load_cute_dsl_kernel("vk", name, None, extra_key_files=("x",))(5)
    """,
}
FAKES["flashinfer/gdn_kernels/gdn_decode_nontranspose.py"] = FAKES[
    "flashinfer/gdn_kernels/gdn_decode_pretranspose.py"]


@pytest.fixture
def packages(tmp_path, monkeypatch, ahead):
    for name in ("torch", "tvm_ffi"):
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[module]
    for name, text in FAKES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    module = tmp_path / "gdn.so"
    module.write_bytes(b"")
    made = {"flashinfer-python": "9.9", "nvidia-cutlass-dsl": "1.2"}
    module.with_suffix(".json").write_text(json.dumps(made))
    monkeypatch.syspath_prepend(str(tmp_path))
    return module


def test_the_compile_step_alone_is_replaced(ahead, packages):
    assert ahead.install(packages) == "9.9, its kernels compiled ahead by CuTe DSL 1.2"
    from flashinfer.gdn_kernels import gdn_decode_pretranspose
    from flashinfer.gdn_kernels.delta_rule_dsl import delta_rule_cp_sm90, delta_rule_sm90

    assert delta_rule_sm90.run() == ("fi_prefill_0", (3, 4))
    assert delta_rule_sm90._in_mem_compile_cache["key", "options"](6) == ("fi_prefill_0", (6,))
    assert delta_rule_cp_sm90.run() == ("fi_cp_fixup_row8_0", ())
    assert gdn_decode_pretranspose.run("decode_0") == ("vk_decode_0", (5,))


def test_what_was_not_compiled_ahead_is_left_out(ahead, packages):
    ahead.install(packages)
    from flashinfer.gdn_kernels import gdn_decode_pretranspose
    from flashinfer.gdn_kernels.delta_rule_dsl import delta_rule_cp_sm90, delta_rule_sm90

    def reason(run, *args, **kwargs):
        with pytest.raises(common.LeftOut) as caught:
            run(*args, **kwargs)
        return str(caught.value)

    assert reason(delta_rule_sm90.run, needs_init_state=True) == (
        "FlashInfer's kernel fi_prefill_1 was not compiled ahead")
    assert reason(delta_rule_sm90.run, needs_beta=False) == (
        "FlashInfer's _FullyFusedDeltaRuleSm90 with needs_beta False was not compiled ahead")
    assert "state_dtype bf16" in reason(delta_rule_sm90.run, state_dtype="bf16")
    assert reason(delta_rule_cp_sm90.run, delta_rule_cp_sm90.New) == (
        "FlashInfer's New was not compiled ahead")
    assert reason(gdn_decode_pretranspose.run, "decode_1") == (
        "FlashInfer's kernel vk_decode_1 was not compiled ahead")


def test_kernels_of_another_flashinfer_are_refused(ahead, packages):
    made = {"flashinfer-python": "9.8", "nvidia-cutlass-dsl": "1.2"}
    packages.with_suffix(".json").write_text(json.dumps(made))
    with pytest.raises(common.LeftOut, match="was made of FlashInfer 9.8, and 9.9 is installed"):
        ahead.install(packages)
    with pytest.raises(common.LeftOut, match="there is no .*none.so"):
        ahead.Kernels(packages.with_name("none.so"), "9.9")


def test_inputs_that_all_get(conversation):
    """The request's "judge" reaches the peer; what it judged is told, and forgotten with the case."""
    told = {"sequences": 1, "tokens": 3, "inputs": "/in", "results": "/out"}

    def ways(part, case):
        assert conversation.peer.same.inputs == "/in"
        conversation.peer.same.judged.append("good")
        return {"good": common.Way([conversation.peer.work])}

    conversation.peer.ways = ways
    request = {"do": "prepare", "part": "prefill", "case": {"size": 3}, "judge": told}
    assert ask(conversation, **request) == {"names": ["good"], "judged": ["good"]}
    ask(conversation, do="drop")
    assert conversation.peer.same is None
    assert "left_out" in ask(conversation, **{**request, "judge": {"sequences": 1}})


def test_warming_tells_of_each_case(tmp_path):
    """Every case is told, whatever becomes of it: here there is no torch."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    run = subprocess.run([sys.executable, "-B", str(talk.FOLDER / "_warm.py"), "60"], capture_output=True,
                         text=True, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 7 and all(line.startswith("FLA, ") for line in lines)
    assert all(line.endswith(": left out: No module named 'torch'") for line in lines), lines


def test_warming_gives_up(tmp_path):
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(60)\n")
    run = subprocess.run([sys.executable, "-B", str(talk.FOLDER / "_warm.py"), "1"], capture_output=True,
                         text=True, check=False, env={**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=30)
    assert run.returncode == 0, run.stderr
    assert [line.split(": ")[1] for line in run.stdout.splitlines()] == ["ended"] * 7
