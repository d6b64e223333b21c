# SPDX-License-Identifier: Apache-2.0
"""The gated delta rule on a GPU: every implementation of the prefill, each stage alone, the decode.

Called as an engine in Python would: torch's CUDA tensors through TVM FFI, the workspace given. Times
are between two CUDA events around one replay of a graph, around one replay of a graph of CALLS calls
(in a row, a call's share), and around one call from Python (eager): 3 warm-ups, the median of 20.
Nothing flushes the cache in between. The floor is the time in which 3.0 TB/s read every input once and
write the output and the final state once; for a decode, read and write every state once.

Beside it flash-linear-attention (FLA), from the folder that PEGA_FLA names or as installed. It tunes
its kernels for each number of heads before it is timed, which takes most of this program's time; what
is not done after PEGA_BENCH_SECONDS (60) is left out by name.

With --json FILE the numbers go to that file as well. The bridge is PEGA_TEST_BRIDGE, or that of
PEGA_BUILD, and the kernels are the pack's that PEGA_PACK_PATH names.
Ends with 77 and a line "SKIP: reason" where torch, tvm_ffi or a GPU is not to be had.
"""

import contextlib
import functools
import json
import math
import os
import pathlib
import signal
import sys
import time
import types

from prefill_torch import CHUNK, DECODE, HEAD, PREFILL, inputs, recurrence, rms_error, spread

STARTED = time.monotonic()
DEVICE = "cuda"
BANDWIDTH = 3.0e12
WARM_UPS, SAMPLES, CALLS = 3, 20, 10
SHORT = 1000  # us; what takes longer is not measured in a row
RECURRENT_MAX = 512  # tokens of a sequence up to which the recurrence is measured
STAGE = "pegainfer.qwen35.gated_delta_rule_chunk_"
STAGES = ("prepare", "cumsum", "a", "solve", "recompute", "state", "o")

# Lengths, HK, HV.
LENGTHS = [((tokens,), 16, 32) for tokens in (64, 512, 2048, 8192, 32768, 131072)]
BATCHES = [((512,) * 32, 16, 32), ((4096,) * 8, 16, 32)]
SHAPES = [((8192,), 16, 48), ((8192,), 16, 64), ((8192,), 4, 8)]
# FLA keeps what it chose for the first length.
FLA_LENGTHS = sorted(LENGTHS, key=lambda case: case[0][0] != 8192)
STAGES_AT = 32768
DECODES = (1, 8, 64, 256)
ERROR_AT = 512


class OutOfTime(BaseException):
    """Not an Exception, so that no one's `except Exception` takes it."""


def seconds_left():
    return float(os.environ.get("PEGA_BENCH_SECONDS", "60")) - (time.monotonic() - STARTED)


@contextlib.contextmanager
def time_limit():
    """Raises OutOfTime in the block once the time is up, in the middle of a compilation too."""

    def expired(number, frame):
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, max(seconds_left(), 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- times ---


def event_times(torch, run):
    """us between events around `run`, SAMPLES times."""
    for _ in range(WARM_UPS):
        run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(SAMPLES):
        torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return times


def replay_times(torch, run, calls):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            run()
    return [us / calls for us in event_times(torch, graph.replay)]


def measure(torch, run, floor_us):
    """A row: the times of `run`, p10, median and p90, in us."""
    row = {"floor_us": floor_us, "eager_us": spread(event_times(torch, run))}
    row["graph_us"] = spread(replay_times(torch, run, 1))
    if row["graph_us"][1] <= SHORT:
        row["in_a_row_us"] = spread(replay_times(torch, run, CALLS))
    return row


def floor_us(byte_count):
    return byte_count / BANDWIDTH * 1e6


def total_bytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


# --- the table ---


def print_heading(text):
    print(f"\n{text}\n  {'':26} {'floor':>8} {'graph':>9} {'':>18} {'x floor':>8} {'in a row':>9}"
          f" {'eager':>9}")


def print_row(name, row, beside=None):
    low, us, high = row["graph_us"]
    in_a_row = f"{row['in_a_row_us'][1]:9.1f}" if "in_a_row_us" in row else f"{'':9}"
    ratio = "" if beside is None else f"   {us / beside['graph_us'][1]:.2f} x {beside['name']}"
    print(f"  {name:26} {row['floor_us']:8.1f} {us:9.1f} {f'{low:.1f} to {high:.1f}':>18}"
          f" {us / row['floor_us']:8.2f} {in_a_row} {row['eager_us'][1]:9.1f}{ratio}")


def in_words(lengths, key_heads, value_heads):
    count = "one sequence" if len(lengths) == 1 else f"{len(lengths)} sequences"
    return f"{count} of {lengths[0]}, HK {key_heads}, HV {value_heads}"


# --- prefill ---


def projections(torch, tokens, key_heads, value_heads, seed):
    """What the layer's projections leave: qkv, b, a, dt_bias, a_log."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    options = {"generator": generator, "device": DEVICE}
    width = (2 * key_heads + value_heads) * HEAD
    return (
        torch.randn(tokens, width, **options).bfloat16(),
        torch.randn(tokens, value_heads, **options).bfloat16(),
        torch.randn(tokens, value_heads, **options).bfloat16(),
        torch.randn(value_heads, **options).bfloat16(),
        -3 * torch.rand(value_heads, **options),
    )


class Prefill:
    """The tensors of one case."""

    def __init__(self, torch, lengths, key_heads, value_heads):
        tokens, sequences = sum(lengths), len(lengths)
        self.lengths, self.heads = lengths, (key_heads, value_heads)
        self.data = inputs(torch, tokens, key_heads, value_heads, seed=tokens, device=DEVICE)
        self.output = torch.empty_like(self.data.v)
        self.final = torch.empty(sequences, value_heads, HEAD, HEAD, device=DEVICE)
        self.seqlens = None
        if sequences > 1:
            ends = [sum(lengths[:n]) for n in range(sequences + 1)]
            self.seqlens = torch.tensor(ends, dtype=torch.int64, device=DEVICE)

    def plain_arguments(self):
        data = self.data
        return data.q, data.k, data.v, data.g, data.beta

    def floor_us(self, arguments):
        return floor_us(total_bytes((*arguments, self.seqlens, self.output, self.final)))

    def call(self, torch, pega, implementation, projected=None):
        """A call without arguments, of the plain form or from the projections, and its floor."""
        byte_count = pega.workspace(sum(self.lengths), len(self.lengths), *self.heads, pega.device,
                                    projected is not None, False, implementation)
        choice = implementation, torch.empty(byte_count, dtype=torch.uint8, device=DEVICE)
        if projected is None:
            form, arguments = pega.prefill, self.plain_arguments()
            choice = (None, *choice)  # not to be normalised
        else:
            form, arguments = pega.prefill_projected, projected

        def run():
            form(*arguments, None, self.seqlens, None, self.output, self.final, *choice)

        return run, self.floor_us(arguments)


def pega_calls(torch, pega, case, projected):
    """Every way to run a case: name -> a call and its floor."""
    calls = {
        "triton_chunked": case.call(torch, pega, "triton_chunked"),
        "triton_chunked, projected": case.call(torch, pega, "triton_chunked", projected),
    }
    if max(case.lengths) <= RECURRENT_MAX:
        calls["cuda_recurrent"] = case.call(torch, pega, "cuda_recurrent")
    if len(case.lengths) == 1:
        calls["triton_stages, projected"] = case.call(torch, pega, "triton_stages", projected)
    return calls


def measure_prefill(torch, pega, lengths, key_heads, value_heads):
    print_heading(f"prefill, {in_words(lengths, key_heads, value_heads)}, us")
    case = Prefill(torch, lengths, key_heads, value_heads)
    projected = projections(torch, sum(lengths), key_heads, value_heads, seed=sum(lengths))
    rows = []
    for name, (run, floor) in pega_calls(torch, pega, case, projected).items():
        row = {"lengths": list(lengths), "HK": key_heads, "HV": value_heads, "name": name}
        row.update(measure(torch, run, floor))
        print_row(name, row)
        rows.append(row)
    return rows


def fla_prefill(fla, case):
    arguments = [tensor[None] for tensor in case.plain_arguments()]
    return fla.chunk(*arguments, output_final_state=True, cu_seqlens=case.seqlens)


def measure_fla_prefill(torch, fla, lengths, key_heads, value_heads, beside):
    case = Prefill(torch, lengths, key_heads, value_heads)
    row = {"lengths": list(lengths), "HK": key_heads, "HV": value_heads, "name": "FLA"}
    row.update(measure(torch, lambda: fla_prefill(fla, case), case.floor_us(case.plain_arguments())))
    print_row(f"{len(lengths)} x {lengths[0]}, HK {key_heads}, HV {value_heads}", row, beside)
    return row


# --- stages ---


def stage_tensors(torch, tokens, key_heads, value_heads):
    def empty(dtype, *shape):
        return torch.empty(*shape, dtype=dtype, device=DEVICE)

    rows, chunks = (tokens, value_heads), -(-tokens // CHUNK)
    named = dict(zip(("qkv", "b", "a", "dt_bias", "a_log"),
                     projections(torch, tokens, key_heads, value_heads, seed=tokens)))
    for name in ("q", "k", "v", "w", "u", "v_new", "output"):
        named[name] = empty(torch.bfloat16, *rows, HEAD)
    for name in ("g", "beta", "g_cumsum"):
        named[name] = empty(torch.float32, *rows)
    named["a_tril"] = empty(torch.float32, *rows, CHUNK)
    named["a_inv"] = empty(torch.bfloat16, *rows, CHUNK)
    named["chunk_state"] = empty(torch.float32, chunks, value_heads, HEAD, HEAD)
    named["final_state"] = empty(torch.float32, value_heads, HEAD, HEAD)
    return types.SimpleNamespace(**named)


def stage_arguments(t):
    """Of each stage, in the order in which they run."""
    return {
        "prepare": (t.qkv, t.b, t.a, t.dt_bias, t.a_log, t.q, t.k, t.v, t.g, t.beta),
        "cumsum": (t.g, t.g_cumsum),
        "a": (t.k, t.g_cumsum, t.beta, t.a_tril),
        "solve": (t.a_tril, t.a_inv),
        "recompute": (t.k, t.v, t.beta, t.w, t.u, t.a_inv, t.g_cumsum),
        "state": (t.k, t.w, t.u, t.g_cumsum, None, t.chunk_state, t.v_new, t.final_state),
        "o": (t.q, t.k, t.v_new, t.chunk_state, t.g_cumsum, t.output, None),
    }


def solve_bytes(tokens, heads):
    """The 32-byte sectors that hold the strict lower triangle, and the whole output."""
    sectors = sum(math.ceil(row / 8) for row in range(CHUNK))
    return tokens // CHUNK * heads * (sectors * 32 + CHUNK * CHUNK * 2)


def measure_stages(torch, pega, tokens, key_heads, value_heads):
    print_heading(f"stages, {in_words((tokens,), key_heads, value_heads)}, us")
    tensors = stage_tensors(torch, tokens, key_heads, value_heads)
    rows = []
    for name, arguments in stage_arguments(tensors).items():
        moved = total_bytes(arguments) if name != "solve" else solve_bytes(tokens, value_heads)
        run = functools.partial(pega.stages[name], *arguments)
        row = {"T": tokens, "HK": key_heads, "HV": value_heads, "name": name}
        row.update(measure(torch, run, floor_us(moved)))
        print_row(name, row)
        rows.append(row)
    print(f"  {'all':26} {sum(row['floor_us'] for row in rows):8.1f}"
          f" {sum(row['graph_us'][1] for row in rows):9.1f}")
    return rows


# --- decode ---


def decode_case(torch, batch, key_heads, value_heads):
    data = inputs(torch, batch, key_heads, value_heads, seed=batch, device=DEVICE)
    states = torch.zeros(batch, value_heads, HEAD, HEAD, device=DEVICE)
    return data, states, floor_us(2 * total_bytes([states]))


def measure_decode(torch, pega, batch, key_heads, value_heads):
    data, states, floor = decode_case(torch, batch, key_heads, value_heads)
    projected = projections(torch, batch, key_heads, value_heads, seed=batch)
    output = torch.empty_like(data.v)
    slots = torch.randperm(batch, device=DEVICE).int()
    tail = (states, slots, None, output)
    runs = {
        "cuda": lambda: pega.decode(data.q, data.k, data.v, data.g, data.beta, *tail),
        "cuda, projected": lambda: pega.decode_projected(*projected, *tail),
    }
    rows = []
    for name, run in runs.items():
        row = {"B": batch, "HK": key_heads, "HV": value_heads, "name": name}
        row.update(measure(torch, run, floor))
        print_row(f"B = {batch}, {name}", row)
        rows.append(row)
    return rows


def measure_fla_decode(torch, fla, batch, key_heads, value_heads, beside):
    data, states, floor = decode_case(torch, batch, key_heads, value_heads)
    arguments = {name: getattr(data, name)[:, None] for name in ("q", "k", "v", "g", "beta")}
    row = {"B": batch, "HK": key_heads, "HV": value_heads, "name": "FLA"}
    row.update(measure(
        torch,
        lambda: fla.recurrent(**arguments, initial_state=states, output_final_state=True),
        floor,
    ))
    print_row(f"B = {batch}", row, beside)
    return row


# --- errors ---


def print_error(name, got, truth):
    row = {"name": name, "T": ERROR_AT, "output_rms": rms_error(got[0], truth[0]),
           "state_rms": rms_error(got[1], truth[1])}
    print(f"  {name:26} output {row['output_rms']:.1e}   state {row['state_rms']:.1e}")
    return row


def truth_of(torch, data):
    state = torch.zeros(data.v.shape[1], HEAD, HEAD, device=DEVICE)
    return recurrence(torch, data, state)


def measure_errors(torch, pega):
    """Of the projected form against the recurrence of what the stage prepare leaves."""
    print(f"\nrms error against float64, {in_words((ERROR_AT,), 16, 32)}")
    case = Prefill(torch, (ERROR_AT,), 16, 32)
    projected = projections(torch, ERROR_AT, 16, 32, seed=ERROR_AT)
    prepared = stage_tensors(torch, ERROR_AT, 16, 32)
    pega.stages["prepare"](*projected, prepared.q, prepared.k, prepared.v, prepared.g, prepared.beta)
    truth, truth_projected = truth_of(torch, case.data), truth_of(torch, prepared)
    rows = []
    for name, (run, _) in pega_calls(torch, pega, case, projected).items():
        run()
        rows.append(print_error(name, (case.output, case.final[0]),
                                truth_projected if "projected" in name else truth))
    return rows


def measure_fla_error(torch, fla):
    case = Prefill(torch, (ERROR_AT,), 16, 32)
    output, final = fla_prefill(fla, case)
    return print_error(f"FLA, rms error, T = {ERROR_AT}", (output[0], final[0]),
                       truth_of(torch, case.data))


# --- all of it ---


class Report:
    """What was measured and what was not."""

    def __init__(self, torch):
        self.torch = torch
        self.failed = False
        self.all = {"torch": torch.__version__, "device": torch.cuda.get_device_name(0), "fla": None,
                    "calls_in_a_row": CALLS, "prefill": [], "stages": [], "decode": [], "errors": [],
                    "left_out": []}

    def attempt(self, part, name, run, *arguments):
        """Adds the rows that `run` returns; where it cannot, says so and goes on."""
        try:
            if seconds_left() <= 0:
                raise OutOfTime
            rows = run(self.torch, *arguments)
            self.all[part] += rows if isinstance(rows, list) else [rows]
        except OutOfTime:
            self.leave_out(f"{part}, {name}", "out of time")
        except self.torch.cuda.OutOfMemoryError:
            self.leave_out(f"{part}, {name}", "out of memory")
        except Exception as error:  # of anyone's code; the others are measured all the same
            self.failed = self.failed or not name.startswith("FLA")
            self.leave_out(f"{part}, {name}", f"{type(error).__name__}: {error}")
        self.torch.cuda.empty_cache()

    def leave_out(self, name, reason):
        self.all["left_out"].append({"name": name, "reason": reason})
        print(f"  left out: {name}: {reason}")

    def find(self, part, name, **sizes):
        for row in self.all[part]:
            if row["name"] == name and all(row[key] == value for key, value in sizes.items()):
                return row
        return None


def run_pega(report, pega):
    report.attempt("errors", "pega", measure_errors, pega)
    for case in LENGTHS + BATCHES + SHAPES:
        report.attempt("prefill", in_words(*case), measure_prefill, pega, *case)
    report.attempt("stages", "one by one", measure_stages, pega, STAGES_AT, 16, 32)
    print_heading("decode, HK 16, HV 32, us")
    for batch in DECODES:
        report.attempt("decode", f"B = {batch}", measure_decode, pega, batch, 16, 32)


def import_fla():
    folder = os.environ.get("PEGA_FLA")
    if folder:
        sys.path.insert(0, folder)
    import fla
    from fla.ops import gated_delta_rule as ops

    return types.SimpleNamespace(
        version=getattr(fla, "__version__", "of unknown version"),
        chunk=ops.chunk_gated_delta_rule,
        recurrent=ops.fused_recurrent_gated_delta_rule,
    )


def run_fla_parts(report, fla):
    print_heading(f"FLA {fla.version}, us")

    def prefill(cases):
        for lengths, key_heads, value_heads in cases:
            beside = report.find("prefill", "triton_chunked", lengths=list(lengths), HK=key_heads,
                                 HV=value_heads)
            report.attempt("prefill", "FLA, " + in_words(lengths, key_heads, value_heads),
                           measure_fla_prefill, fla, lengths, key_heads, value_heads, beside)

    prefill(FLA_LENGTHS)
    report.attempt("errors", "FLA", measure_fla_error, fla)
    for batch in DECODES:
        report.attempt("decode", f"FLA, B = {batch}", measure_fla_decode, fla, batch, 16, 32,
                       report.find("decode", "cuda", B=batch))
    prefill(BATCHES + SHAPES)


def run_fla(report):
    try:
        with time_limit():
            try:
                fla = import_fla()
            except Exception as error:
                report.leave_out("FLA", f"importing it failed ({type(error).__name__}: {error}):"
                                        " PEGA_FLA names a folder with what fla-core and einops bring")
                return
            report.all["fla"] = fla.version
            run_fla_parts(report, fla)
    except OutOfTime:
        report.leave_out("FLA, the rest", "out of time")


def find_pega(tvm_ffi):
    root = pathlib.Path(__file__).resolve().parent.parent
    pack = root / "build" / "kernels" / "qwen35.pegapack"
    if "PEGA_PACK_PATH" not in os.environ and pack.exists():
        os.environ["PEGA_PACK_PATH"] = str(pack)
    build = pathlib.Path(os.environ.get("PEGA_BUILD", root / "build" / "bench"))
    bridge = os.environ.get("PEGA_TEST_BRIDGE", str(build / "lib" / "libpega_tvm_ffi.so"))
    get = tvm_ffi.load_module(bridge)["pega_get"]
    return types.SimpleNamespace(
        device=tvm_ffi.device(f"{DEVICE}:0"),
        prefill=get(PREFILL),
        prefill_projected=get(PREFILL + "_projected"),
        workspace=get(PREFILL + "_workspace"),
        decode=get(DECODE),
        decode_projected=get(DECODE + "_projected"),
        stages={name: get(STAGE + name) for name in STAGES},
    )


def skip(reason):
    print(f"SKIP: {reason}")
    return 77


def main():
    path = None
    if len(sys.argv) == 3 and sys.argv[1] == "--json":
        path = pathlib.Path(sys.argv[2])
    elif len(sys.argv) > 1:
        print("usage: prefill_gpu.py [--json FILE]", file=sys.stderr)
        return 2
    try:
        import torch
        import tvm_ffi
    except ImportError as missing:
        return skip(f"{missing.name} is not installed for {sys.executable}"
                    " (PEGA_TORCH_PYTHON names another Python)")
    if not torch.cuda.is_available():
        return skip("torch sees no CUDA device")
    torch.set_grad_enabled(False)
    pega = find_pega(tvm_ffi)
    print(f"gated delta rule on {torch.cuda.get_device_name(0)}, torch {torch.__version__};"
          f" median, p10 to p90 of {SAMPLES}, floor at {BANDWIDTH / 1e12:.1f} TB/s")
    report = Report(torch)

    def keep():
        if path is not None:
            path.write_text(json.dumps(report.all, indent=1) + "\n")

    run_pega(report, pega)
    keep()
    run_fla(report)
    keep()
    print(f"\n{time.monotonic() - STARTED:.0f} s")
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
