# SPDX-License-Identifier: Apache-2.0
"""What the peers of `pega bench` share: the conversation, the clocks, the inputs and the judge.

A peer is a program that `pega bench` starts and speaks with in lines of JSON, requests on its standard
input, answers on its standard output; whatever else it prints goes to standard error:

    {"do": "hello"}                          {"name", "version", "parts": [...]}
    {"do": "prepare", "part", "case": {...}} {"names": [...], "errors": {name: {...}}}
        with "rotate_bytes": N, calls are to go through that many bytes; "rotated": true in the answer: they do
        with "judge": {...}, a small prefill's inputs that all get, and where results go: see Same;
        "judged": [...] in the answer: the ways whose results are there, in their order
        with "kernel": {...}, of a launch: the kernel that pega launches, see docs/benchmark.md
    {"do": "measure", "name", "how", "samples"} {"us": [...]}
    {"do": "drop"}                           {}

Each may be answered by {"left_out": "why"} instead, and no request ends a peer. What prepare names has
run on a small case of the same kind before and was right there, by a recurrence in float64, or by who
asked, on the inputs that it gave; what was not is named all the same, and says why when it is to be measured.

How a call is timed, always in microseconds of one call:
    graph   GPU time: a CUDA graph of one call, replayed between two events
    row     GPU time: the same of a graph of ten or more calls in a row, a call's share
    eager   between two events around one call
    wall    host clock around one call and the device's being done with it
    host    host clock around calls one after the other, which the device need not be done with
"""

import collections
import ctypes
import gc
import itertools
import json
import math
import os
import sys
import time
import types

HEAD = 128
CHUNK = 64
SCALE = HEAD**-0.5
WARM_UPS = 3
LAUNCHES = 100  # one after the other, of what measures launches
ROW = 10  # calls of a graph of calls in a row, or more: see Way
LEAD_FILLS = 32  # see GpuClock.replays
LEAD_BYTES = 64 << 10
MOST_FILLS = 256
MAX_SETS = 160
LIMIT = 1e-2  # rms of output and state, relative; a right implementation in bfloat16 has 4e-3
SOLVE_LIMIT = 2e-3  # max, relative; bfloat16 rounds by 5e-4 of the largest
SETTLE = 0.01  # seconds; a CPU's threads spin for a while after their last work
MAX_SAMPLES = 100_000


class LeftOut(Exception):
    """Why something is not measured."""


def why(error):
    """An exception in one line."""
    if isinstance(error, (LeftOut, ImportError)):
        text = str(error)
    elif type(error).__name__ == "OutOfMemoryError":
        text = "out of memory"
    else:
        text = f"{type(error).__name__}: {error}"
    lines = text.strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


# --- the conversation ---


class Way:
    """One way to do a case. Where `reason` is given it is not measured.

    Each of `runs` does the case once; there are several where each finds other memory, so that what one
    call leaves in the caches is of no use to the next: they take turns. What they return is kept for as long, so
    that who allocates its results finds other memory for each, too.
    """

    def __init__(self, runs=(), reason=None, error=None):
        self.runs = list(runs)
        self.reason = reason
        self.error = error  # of the small case: what to its size
        self.turns = itertools.cycle(self.runs)
        self.kept = self.keeper()
        self.graphs = {}  # name of a way of timing -> its graphs, the number of calls in each

    def keeper(self):
        """Of the last results: none where calls find the same memory again."""
        return collections.deque(maxlen=len(self.runs) if len(self.runs) > 1 else 0)

    def run(self):
        self.kept.append(next(self.turns)())


class Peer:
    """What a program of this folder is: subclass it and serve() it."""

    name = ""
    parts = ()
    rotate_bytes = 0  # of memory that the calls of the case in work are to go through
    rotated = False  # whether they do
    same = None  # a Same, where the one who asks judges prefills
    kernel = None  # what pega launches, where the one who asks tells of it

    def open(self):
        """Imports what is measured, sets self.clock and returns the version; raises where that fails."""
        raise NotImplementedError

    def ways(self, part, case):
        """The ways to do a case: a dict from a name to a Way."""
        raise NotImplementedError

    def small_prefill(self, torch, lengths, key_heads, value_heads, device):
        """A small prefill's inputs: those that all get, or of these lengths."""
        if self.same:
            return self.same.data(torch, key_heads, value_heads, device)
        return prefill_data(torch, lengths, key_heads, value_heads, device)

    def judge_prefill(self, torch, name, data, output, states):
        """Of such a prefill's results [T, HV, 128] and [N, HV, K, V]: the errors, or None where another judges."""
        if self.same:
            self.same.keep(torch, name, data, output, states)
            return None
        return judge(output, states, recurrence(torch, data))

    def sets_of(self, byte_count):
        """How many times so many bytes are wanted, for calls to go through what was asked for; else once."""
        if not self.rotate_bytes:
            return 1
        sets = min(max(-(-self.rotate_bytes // byte_count), 2), MAX_SETS)
        self.rotated = sets * byte_count >= self.rotate_bytes
        return sets


class Conversation:
    """Answers requests; never raises but for what ends a program."""

    def __init__(self, peer):
        self.peer = peer
        self.version = None
        self.ways = {}

    def open(self):
        if self.version is None:
            self.version = self.peer.open()

    def hello(self, request):
        try:
            self.open()
        except Exception as error:  # of anyone's code
            return {"name": self.peer.name, "left_out": why(error)}
        return {"name": self.peer.name, "version": self.version, "parts": list(self.peer.parts)}

    def prepare(self, request):
        self.drop(request)
        self.open()
        part, case = request.get("part"), request.get("case")
        if part not in self.peer.parts:
            raise LeftOut(f"{self.peer.name} has no part '{part}'")
        if not isinstance(case, dict):
            raise LeftOut(f"expected a case, got {case!r}")
        rotate = request.get("rotate_bytes", 0)
        if not isinstance(rotate, int) or isinstance(rotate, bool) or rotate < 0:
            raise LeftOut(f"expected a number of bytes to rotate, got {rotate!r}")
        self.peer.rotate_bytes, self.peer.rotated = rotate, False
        self.peer.same = Same(request["judge"]) if request.get("judge") else None
        self.peer.kernel = request.get("kernel")
        self.ways = self.peer.ways(part, case)
        for way in self.ways.values():
            if way.reason is None:
                try:
                    for _ in range(WARM_UPS):
                        way.run()
                    self.peer.clock.wait()
                except Exception as error:
                    way.reason = why(error)
        answer = {"names": list(self.ways), **({"rotated": True} if self.peer.rotated else {})}
        errors = {name: way.error for name, way in self.ways.items() if way.error}
        if self.peer.same and self.peer.same.judged:
            answer["judged"] = self.peer.same.judged
        return {**answer, "errors": errors} if errors else answer

    def measure(self, request):
        name, how, samples = (request.get(key) for key in ("name", "how", "samples"))
        way = self.ways.get(name)
        if way is None:
            raise LeftOut(f"'{name}' is not prepared")
        if way.reason is not None:
            raise LeftOut(way.reason)
        if not isinstance(samples, int) or not 1 <= samples <= MAX_SAMPLES:
            raise LeftOut(f"expected 1 to {MAX_SAMPLES} samples, got {samples!r}")
        if how not in self.peer.clock.hows:
            raise LeftOut(f"{self.peer.name} is not timed by '{how}'")
        return {"us": [round(us, 4) for us in self.peer.clock.hows[how](way, samples)]}

    def drop(self, request):
        self.ways = {}
        self.peer.same = None
        gc.collect()
        if self.version is not None:
            self.peer.clock.free()
        return {}

    def answer(self, line):
        """The answer to a line; where something is wrong, why."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise LeftOut("a request is a JSON object")
            what = request.get("do")
            if what not in ("hello", "prepare", "measure", "drop"):
                raise LeftOut(f"there is no request '{what}'")
            return getattr(self, what)(request)
        except json.JSONDecodeError as error:
            return {"left_out": f"a request is a line of JSON: {error}"}
        except Exception as error:  # of anyone's code; the next request may be answered
            return {"left_out": why(error)}


def serve(peer):
    """Answers requests until there are no more."""
    # This folder has programs named as the packages that they measure.
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != folder]
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout.flush()
    os.dup2(2, 1)  # what others print is no answer
    conversation = Conversation(peer)
    try:
        for line in iter(sys.stdin.readline, ""):
            if line.strip():
                answers.write(json.dumps(conversation.answer(line)) + "\n")
                answers.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        return 1
    return 0


# --- the clocks ---


class GpuClock:
    """Times of calls that work on torch's current CUDA device and stream."""

    BATCH = 20  # calls one after the other; a device's queue holds far more of their kernels

    def __init__(self, torch, batch=BATCH):
        self.torch = torch
        self.batch = batch
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.lead = None  # a graph, made when first wanted, of...
        self.fills = 0
        self.hows = {"graph": self.graph, "row": self.row, "eager": self.eager, "wall": self.wall,
                     "host": self.host}

    def wait(self):
        self.torch.cuda.synchronize()

    def free(self):
        self.torch.cuda.empty_cache()

    def between_events(self, run, led=False):
        """us between events around `run`, behind the lead if it is `led`; whether the host was ahead of the device."""
        begin, end = self.begin, self.end
        self.wait()
        if led:
            self.lead.replay()
        begin.record()
        run()
        end.record()
        ahead = not begin.query()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3, ahead

    def make_lead(self, fills):
        if self.lead is None:
            self.lead_memory = self.torch.empty(LEAD_BYTES, dtype=self.torch.uint8, device="cuda")
        self.lead, self.fills = self.capture([self.lead_memory.zero_] * fills), fills

    def replays(self, replay, samples):
        """us of the device alone.

        Before a replay the device gets a lead, 30 to 50 us of small fills, so that the host has put the whole replay
        behind it by the time the first event is reached. Where it had not, the lead becomes twice as long, and the
        sample is taken again. src/cli/bench_device.c does the same.
        """
        if self.lead is None:
            self.make_lead(LEAD_FILLS)
        times = []
        replay()
        while len(times) < samples:
            us, ahead = self.between_events(replay, led=True)
            if ahead or self.fills == MOST_FILLS:
                times.append(us)
            else:
                self.make_lead(2 * self.fills)
        return times

    def capture(self, runs, kept=None):
        self.wait()
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            for run in runs:
                result = run()
                if kept is not None:
                    kept.append(result)
                del result
        graph.replay()  # what a first launch costs, the upload, is none of the samples'
        return graph

    def graph(self, way, samples):
        if "graph" not in way.graphs:
            graphs = [self.capture([run]) for run in way.runs]
            way.graphs["graph"] = itertools.cycle(graphs)
        return self.replays(lambda: next(way.graphs["graph"]).replay(), samples)

    def row(self, way, samples):
        runs = way.runs * -(-ROW // len(way.runs))
        if "row" not in way.graphs:
            way.graphs["row"] = self.capture(runs, way.keeper())
        return [us / len(runs) for us in self.replays(way.graphs["row"].replay, samples)]

    def eager(self, way, samples):
        way.run()
        return [self.between_events(way.run)[0] for _ in range(samples)]

    def wall(self, way, samples):
        way.run()
        times = []
        for _ in range(samples):
            self.wait()
            start = time.perf_counter()
            way.run()
            self.wait()
            times.append((time.perf_counter() - start) * 1e6)
        return times

    def host(self, way, samples):
        run, calls, times = way.run, range(self.batch), []
        for _ in range(samples):
            self.wait()
            start = time.perf_counter()
            for _ in calls:
                run()
            times.append((time.perf_counter() - start) / len(calls) * 1e6)
        self.wait()
        return times


class CpuClock:
    """Times of calls on the CPU: a sample of a short call is the mean of several."""

    SAMPLE = 0.02  # seconds

    def __init__(self):
        self.hows = {"wall": self.wall, "host": self.wall}

    def wait(self):
        pass

    def free(self):
        pass

    def seconds(self, run, calls):
        time.sleep(SETTLE)
        if calls > 1:
            run()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls

    def wall(self, way, samples):
        calls = max(1, int(self.SAMPLE / max(self.seconds(way.run, 1), 1e-9)))
        return [self.seconds(way.run, calls) * 1e6 for _ in range(samples)]


def cuda_torch():
    """torch, if it sees a CUDA device."""
    import torch

    if not torch.cuda.is_available():
        raise LeftOut("torch sees no CUDA device")
    torch.set_grad_enabled(False)
    return torch


# --- cases and inputs ---


def sizes(case, *names):
    """Numbers of a case by name."""
    values = [case.get(name) for name in names]
    for name, value in zip(names, values):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise LeftOut(f"a case has a number '{name}' of at least 1, got {value!r}")
    return values


def directions(torch, rows, heads, options):
    """bfloat16 rows of length 1."""
    values = torch.randn(rows, heads, HEAD, **options)
    return (values / values.norm(dim=-1, keepdim=True)).bfloat16()


def prefill_data(torch, lengths, key_heads, value_heads, device):
    """A row a token: q and k of length 1, v; log gates g in [-0.1, 0], beta in (0, 1); no initial state."""
    tokens = sum(lengths)
    generator = torch.Generator(device).manual_seed(tokens)
    options = {"generator": generator, "device": device}
    ends = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    return types.SimpleNamespace(
        lengths=tuple(lengths),
        starts=torch.tensor(ends, dtype=torch.int64, device=device),
        q=directions(torch, tokens, key_heads, options),
        k=directions(torch, tokens, key_heads, options),
        v=torch.randn(tokens, value_heads, HEAD, **options).bfloat16(),
        g=-0.1 * torch.rand(tokens, value_heads, **options),
        beta=torch.rand(tokens, value_heads, **options),
    )


class Same:
    """A small prefill of which all get the same inputs, and the one who asks judges the results.

    {"sequences", "tokens": of each, "inputs", "results"}: a file with q, k, v, g and beta one behind the other, the
    row of a token after the other, as the library takes them; and one that results are appended to, of each way the
    output in bfloat16 and the final states [N, HV, K, V] in float32.
    """

    def __init__(self, told):
        self.sequences, self.tokens = sizes(told, "sequences", "tokens")
        self.inputs, self.results = told["inputs"], told["results"]
        self.judged = []

    def data(self, torch, key_heads, value_heads, device):
        rows = self.sequences * self.tokens
        with open(self.inputs, "rb") as file:
            memory = bytearray(file.read())
        kinds = [(torch.bfloat16, (rows, key_heads, HEAD)), (torch.bfloat16, (rows, key_heads, HEAD)),
                 (torch.bfloat16, (rows, value_heads, HEAD)), (torch.float32, (rows, value_heads)),
                 (torch.float32, (rows, value_heads))]
        wanted = sum(math.prod(shape) * dtype.itemsize for dtype, shape in kinds)
        if len(memory) != wanted:
            raise LeftOut(f"{self.inputs} has {len(memory)} bytes, not {wanted}")
        tensors, at = [], 0
        for dtype, shape in kinds:
            count = math.prod(shape)
            one = torch.frombuffer(memory, dtype=dtype, count=count, offset=at)
            tensors.append(one.reshape(shape).clone().to(device))
            at += count * dtype.itemsize
        starts = torch.arange(self.sequences + 1, dtype=torch.int64, device=device) * self.tokens
        names = zip(("q", "k", "v", "g", "beta"), tensors)
        return types.SimpleNamespace(lengths=(self.tokens,) * self.sequences, starts=starts, **dict(names))

    def keep(self, torch, name, data, output, states):
        """Appends a way's results."""
        heads = data.v.shape[1]
        wanted = {"output": (output, torch.bfloat16, (sum(data.lengths), heads, HEAD)),
                  "state": (states, torch.float32, (len(data.lengths), heads, HEAD, HEAD))}
        for what, (got, dtype, shape) in wanted.items():
            if tuple(got.shape) != shape or got.dtype != dtype:
                raise LeftOut(f"its {what} is {got.dtype} {tuple(got.shape)}, not {dtype} {shape}")
        with open(self.results, "ab") as file:
            for got, _, _ in wanted.values():
                plain = got.contiguous().cpu()
                file.write(ctypes.string_at(plain.data_ptr(), plain.numel() * plain.element_size()))
        self.judged.append(name)


def decode_data(torch, batch, key_heads, value_heads, device, sets=1):
    """One token of each of a batch: q, k, v; g and beta, and the projections they are made of; states.

    g = -exp(a_log) softplus(a + dt_bias) in [-0.1, 0], beta = sigmoid(b) in (0, 1). Each of the sets of
    states is [B, HV, K, V].
    """
    generator = torch.Generator(device).manual_seed(batch)
    options = {"generator": generator, "device": device}

    def uniform():
        return torch.rand(batch, value_heads, **options).clamp(1e-3, 1 - 1e-3)

    a = uniform().expm1().log().bfloat16()
    b = uniform().logit().bfloat16()
    a_log = torch.full((value_heads,), 0.1, device=device).log()
    return types.SimpleNamespace(
        q=directions(torch, batch, key_heads, options),
        k=directions(torch, batch, key_heads, options),
        v=torch.randn(batch, value_heads, HEAD, **options).bfloat16(),
        a=a,
        b=b,
        a_log=a_log,
        dt_bias=torch.zeros(value_heads, dtype=torch.bfloat16, device=device),
        g=(-a_log.double().exp() * torch.nn.functional.softplus(a.double())).float(),
        beta=b.double().sigmoid().float(),
        sets=torch.randn(sets, batch, value_heads, HEAD, HEAD, **options),
    )


def solve_data(torch, tokens, heads, device):
    """A as the rule makes it, beta_i exp(G_i - G_j) (k_i . k_j) below the diagonal: [T, HV, 64]."""
    generator = torch.Generator(device).manual_seed(tokens)
    options = {"generator": generator, "device": device}
    chunks = -(-tokens // CHUNK)
    a_tril = torch.empty(chunks, CHUNK, heads, CHUNK, device=device)
    for head in range(heads):  # one by one, for memory
        keys = torch.randn(chunks, CHUNK, HEAD, **options)
        keys = keys / keys.norm(dim=-1, keepdim=True)
        beta = torch.rand(chunks, CHUNK, 1, **options)
        gate = (-0.1 * torch.rand(chunks, CHUNK, **options)).cumsum(-1)
        decay = (gate[..., :, None] - gate[..., None, :]).tril(-1).exp()
        a_tril[:, :, head] = torch.tril(beta * decay * (keys @ keys.mT), -1)
    return a_tril.reshape(chunks * CHUNK, heads, CHUNK)[:tokens].contiguous()


# --- the judge ---


def repeated(x, heads):
    """[T, HK, 128] as [T, HV, 128]: value head h uses key head floor(h HK / HV)."""
    return x.repeat_interleave(heads // x.shape[1], dim=1)


def step(states, q, k, v, g, beta):
    """One token: states [..., K, V], q, k, v [..., 128], g, beta [...]. The new states, the output."""
    states = states * g.exp()[..., None, None]
    seen = (states * k[..., :, None]).sum(-2)
    write = (v - seen) * beta[..., None]
    states = states + k[..., :, None] * write[..., None, :]
    return states, (states * (q * SCALE)[..., :, None]).sum(-2)


def recurrence(torch, data):
    """The truth of a prefill: the rule in float64, token by token. Output, final states [N, HV, K, V]."""
    heads = data.v.shape[1]
    q, k = repeated(data.q, heads).double(), repeated(data.k, heads).double()
    v, g, beta = data.v.double(), data.g.double(), data.beta.double()
    output = torch.empty_like(v)
    finals, start = [], 0
    for length in data.lengths:
        state = torch.zeros(heads, HEAD, HEAD, dtype=torch.float64, device=v.device)
        for t in range(start, start + length):
            state, output[t] = step(state, q[t], k[t], v[t], g[t], beta[t])
        finals.append(state)
        start += length
    return output, torch.stack(finals)


def decode_truth(torch, data):
    """The truth of a decode: output [B, HV, 128] and states [B, HV, K, V] in float64."""
    heads = data.v.shape[1]
    q, k = repeated(data.q, heads).double(), repeated(data.k, heads).double()
    states, output = step(data.sets[0].double(), q, k, data.v.double(), data.g.double(),
                          data.beta.double())
    return output, states


def rms_error(got, truth):
    """Root of the mean square of the difference, relative to that of the truth."""
    return float(((got.double() - truth) ** 2).mean().sqrt() / (truth**2).mean().sqrt())


def judge(output, states, truth):
    """The errors of what was found; raises where it is wrong."""
    for name, got, true in zip(("output", "state"), (output, states), truth):
        if tuple(got.shape) != tuple(true.shape):
            raise LeftOut(f"its {name} has the shape {tuple(got.shape)}, not {tuple(true.shape)}")
    errors = {"output_rms": rms_error(output, truth[0]), "state_rms": rms_error(states, truth[1])}
    if not all(error <= LIMIT for error in errors.values()):
        raise LeftOut("it is wrong on a small case: relative rms error of output"
                      f" {errors['output_rms']:.1e}, of the state {errors['state_rms']:.1e}")
    return errors


def judge_solve(torch, a_tril, found):
    """The error of an inverse of I + A [T, HV, 64], T a multiple of 64; raises where it is wrong."""
    tokens, heads, _ = a_tril.shape
    squares = a_tril.double().reshape(-1, CHUNK, heads, CHUNK).transpose(1, 2).tril(-1)
    truth = torch.linalg.inv(squares + torch.eye(CHUNK, dtype=torch.float64, device=a_tril.device))
    got = found.double().reshape(-1, CHUNK, heads, CHUNK).transpose(1, 2)
    error = float((got - truth).abs().max() / truth.abs().max())
    if not error <= SOLVE_LIMIT:
        raise LeftOut(f"it is wrong on a small case: relative maximal error {error:.1e}")
    return {"max": error}


def judged(check, runs):
    """A way that was right on a small case, or why it is none: `check` returns errors or raises."""
    try:
        return Way(error=check(), runs=runs)
    except Exception as error:  # of anyone's code
        return Way(reason=why(error))
