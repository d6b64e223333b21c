# SPDX-License-Identifier: Apache-2.0
"""The blocks of figures in README.md and docs/performance.md, by name."""

import aims as aims_of
import evidence
from tables import (
    about,
    aim_cell,
    batch_of_tokens,
    cases_of,
    heads,
    in_words,
    is_of_error,
    key,
    limit_words,
    matrix,
    number,
    table,
    unique,
    value_words,
    verdict,
)

MISSING = "Not measured yet: `{}` does it."


def aims_block(sources):
    """Every aim, with the worst that was measured."""
    lines = []
    for aim in sources.aims:
        result = aims_of.judge(aim, sources.document(aim["document"]))
        got = ""
        if result.met is not None:
            got = value_words(result.value, aim)
            if result.cases > 1:
                got += f" (of {result.cases} cases; {in_words(result.case)})"
        lines.append([aim["says"], limit_words(aim), got, result.word])
    return table(["", "aim", "measured, the worst case", ""], lines, 4)


def steps(sources, document, part, ratios):
    """A row a name: what it takes, and over the first of the driver alone, which it is measured against."""
    found = document.find(part)
    if not found:
        return None
    first = next((row for row in found if row.by == "driver"), None)
    lines = []
    for row in found:
        ratio_of_rounds = row.other.get("ratio") or (row.median / first.median if first else None)
        lines.append(
            [
                row.name if row.by != "pega" else f"pega, {row.name}",
                number(row.median),
                low_high(row),
                f"{number(row.median - first.median)}" if first and row is not first else "",
                f"{ratio_of_rounds:.3f}" if first and ratios else "",
                aim_cell(sources, document, [row]),
            ]
        )
    head = [f"{found[0].unit} a launch", "median", "p10 to p90", "over the first", "ratio", "aim"]
    return f"{table(head, lines)}\n\n{about(sources, document, part)}"


def low_high(row):
    return "" if row.low is None else f"{number(row.low)} to {number(row.high)}"


def call_block(sources):
    document = sources.cpu
    found = document.find("call")
    if not found:
        return None
    head, lines = ["ns a call"], {}
    for case in cases_of(found):
        here = [row for row in found if row.case == case]
        head += [in_words(case), "added"]
        for row in here:
            line = lines.setdefault(row.name, {})
            line[len(head) - 2] = number(row.median)
            line[len(head) - 1] = "" if row is here[0] else number(row.median - here[0].median)
    rows = [[name] + [line.get(i, "") for i in range(1, len(head))] for name, line in lines.items()]
    return table(head, rows) + "\n\n" + about(sources, document, "call", found)


COLD = {"process": "from a process's start to its end", "first result": "from a context to the first result"}


def cold_block(sources):
    document = sources.gpu
    found = document.find("cold")
    if not found:
        return None
    lines = []
    for case in cases_of(found):
        here = [row for row in found if row.case == case]
        base = next((row for row in here if row.by != "pega"), None)
        for row in here:
            told = number(row.median / base.median) if base and row is not base else ""
            lines.append(
                [COLD.get(case.get("from"), in_words(case)), row.name, number(row.median), low_high(row), told]
            )
    return (
        table([found[0].unit, "", "median", "p10 to p90", "ratio"], lines, 2)
        + "\n\n"
        + about(sources, document, "cold")
    )


def solve_block(sources):
    columns = [("T", key("tokens")), ("HV", key("value_heads"))]
    return matrix(sources, sources.gpu, "solve", columns, ("row", "graph"), ratios=[("FLA", None)], note=True)


def stages_block(sources):
    return matrix(
        sources,
        sources.gpu,
        "stages",
        [("stage", key("stage")), ("T", key("tokens")), ("HK, HV", heads)],
        ("row", "graph"),
    )


PREFILL = [("N x T", batch_of_tokens), ("HK, HV", heads)]
OTHER_FORMS = (
    "triton_stages",
    "triton_stages, projected",
    "triton_chunked, projected",
    "triton_fused, projected",
    "cuda_recurrent",
    "cuda_recurrent, projected",
    "flashinfer, projected",
    "flashinfer_cp, projected",
)


def prefill_block(sources):
    return matrix(
        sources,
        sources.gpu,
        "prefill",
        PREFILL,
        "graph",
        without=OTHER_FORMS,
        ratios=[("FLA", "triton_chunked"), ("FlashInfer", None)],
        note=True,
    )


def prefill_forms_block(sources):
    there = [row.case for row in sources.gpu.find("prefill", how="graph") if row.name in OTHER_FORMS]
    return matrix(
        sources,
        sources.gpu,
        "prefill",
        PREFILL,
        "graph",
        names=("triton_chunked", *OTHER_FORMS),
        aims=False,
        cases=there,
    )


def prefill_eager_block(sources):
    return matrix(sources, sources.gpu, "prefill", PREFILL, "eager", without=OTHER_FORMS)


def prefill_host_block(sources):
    return matrix(sources, sources.gpu, "prefill", PREFILL, "host", without=OTHER_FORMS)


def decode_block(sources):
    return matrix(
        sources,
        sources.gpu,
        "decode",
        [("batch", key("batch")), ("HK, HV", heads)],
        "graph",
        ratios=[("FLA", None), ("FlashInfer", None)],
    )


def decode_row_block(sources):
    return matrix(
        sources,
        sources.gpu,
        "decode",
        [("batch", key("batch")), ("HK, HV", heads)],
        "row",
        ratios=[("FLA", None), ("FlashInfer", None)],
    )


def cpu_block(operation):
    def block(sources):
        columns = {
            "prefill": PREFILL,
            "decode": [("batch", key("batch")), ("HK, HV", heads)],
            "solve": [("T", key("tokens")), ("HV", key("value_heads")), ("beside", key("beside"))],
        }[operation]
        columns = [*columns, ("threads", key("threads"))]
        peers = unique(row.by for row in sources.cpu.find("cpu", {"op": operation}) if row.by != "pega")
        return matrix(
            sources,
            sources.cpu,
            "cpu",
            columns,
            ("wall", "host"),
            "us" if operation == "decode" else "ms",
            {"op": operation},
            ratios=[(peer, None) for peer in peers],
        )

    return block


def roofline_block(sources):
    """What each call does a second, beside what the processor can: multiply-adds in registers, and a copy."""
    rows = [
        row
        for row in sources.cpu.find("cpu", by="pega")
        if row.other.get("operations") and row.other.get("peak_flop_per_second")
    ]
    if not rows:
        return None
    most = max(row.case["threads"] for row in rows)
    rows = [row for row in rows if row.case["threads"] == most]
    lines = []
    for row in rows:
        told = row.other
        seconds = row.value("ns") * 1e-9
        flops, moved = told["operations"] / seconds, told["bytes"] / seconds
        lines.append(
            [
                row.case["op"],
                in_words({key: value for key, value in row.case.items() if key in ("tokens", "batch", "threads")}),
                number(told["operations"] / told["bytes"]),
                number(flops / 1e9),
                f"{100 * flops / told['peak_flop_per_second']:.0f} %",
                number(moved / 1e9),
                f"{100 * moved / told['peak_bytes_per_second']:.0f} %",
                number(row.value("us") / row.value("us", "floor")) if row.floor else "",
            ]
        )
    head = ["", "", "operations a byte", "GFLOP/s", "of the peak", "GB/s", "of the copy", "x roof"]
    return table(head, lines, 2) + "\n\n" + about(sources, sources.cpu, "cpu")


SCALED = {"launches/s": 1e6}


def scale_block(sources):
    """Against the number of functions, and against the number of threads."""
    told = [scale_table(sources, sources.cpu, "functions")]
    told.append(scale_table(sources, evidence.of_threads(sources.cpu, sources.gpu), "threads"))
    return "\n\n".join(block for block in told if block) or None


def scale_table(sources, document, axis):
    rows = [row for row in document.find("scale") if axis in row.case] if document else []
    if not rows:
        return None
    names = unique((row.name, row.unit) for row in rows)
    lines = []
    for case in cases_of(rows):
        here = {row.name: row for row in rows if row.case == case}
        line = [str(case[axis])]
        line += [number(here[name].median / SCALED.get(unit, 1)) if name in here else "" for name, unit in names]
        lines.append([*line, aim_cell(sources, document, here.values())])
    head = [axis, *(f"{name}, {'million ' if unit in SCALED else ''}{unit}" for name, unit in names), "aim"]
    of_axis = [row.name for row in document.rows if row.part == "scale" and axis in row.case]
    return f"{table(head, lines)}\n\n{about(sources, document, 'scale', rows, unit='', names=of_axis)}"


SAME = {"output_rms": "same inputs, output", "state_rms": "same inputs, state"}


def errors_told(row):
    """A row's errors by name: of its own case, and of the inputs that all get."""
    same = row.other.get("same_data") or {}
    return {**(row.other.get("error") or {}), **{name: same[key] for key, name in SAME.items() if key in same}}


def errors_block(part):
    """How far each implementation's results are from the reference, the worst of all cases."""

    def block(sources):
        rows = [row for row in sources.gpu.rows if row.part == part and errors_told(row)]
        if not rows:
            return None
        whats = unique(what for row in rows for what in errors_told(row))
        lines = []
        for name in unique(row.name for row in rows):
            own = [errors_told(row) for row in rows if row.name == name]
            worst = [max((error[what] for error in own if error.get(what) is not None), default=None) for what in whats]
            judged = [
                aims_of.judge(aim, sources.gpu)
                for aim in sources.aims
                if aim["part"] == part
                and is_of_error(aim)
                and any(aims_of.is_ours(aim, row) for row in rows if row.name == name)
            ]
            told = "; ".join(
                f"{limit_words(one.aim)}: {verdict(one.value, one.aim, one.met)}"
                for one in judged
                if one.met is not None
            )
            lines.append([name, *("" if value is None else f"{value:.1e}" for value in worst), told])
        link = f"[numbers]({sources.root}evidence/{sources.gpu.path.name})"
        return (
            table(["error, the worst of all cases", *whats, "aim"], lines)
            + f"\n\n{evidence.where_from(sources.gpu.run_of(part), True)} ({link})."
        )

    return block


def indexer_block(sources):
    rows = sources.report.rows(
        "cute-python", r"(\d+) +(\d+) +([\d.]+) +([\d.]+) +([\d.]+)x +([\d.]+) +([\d.]+) +([\d.]+) +(\d+)"
    )
    if not rows:
        return None
    lines = [
        [f"{t} x {c}", dots, cublas, rate, fill, scores, flops]
        for t, c, dots, cublas, rate, _, fill, scores, flops in rows
    ]
    head = ["t x c", "dots, us", "cuBLAS, us", "cuBLAS / dots", "fill, us", "fused scores, us", "TFLOP/s"]
    return from_report(sources, table(head, lines), "cute-python")


def rms_norm_block(sources):
    rows = sources.report.rows(
        "handwritten-python", r"rms_norm bf16 \[(\d+), (\d+)\]: ([\d.]+) us \((\d+) GB/s\), torch ([\d.]+) us"
    )
    if not rows:
        return None
    lines = [[f"{r} x {c}", us, rate, torch, f"{float(torch) / float(us):.2f}"] for r, c, us, rate, torch in rows]
    return from_report(
        sources, table(["rows x columns", "ours, us", "GB/s", "torch, us", "torch / ours"], lines), "handwritten-python"
    )


def cublas_block(sources):
    rows = sources.report.rows("cublas", r"host ns per call, (.*), median of .*: (\S+) (\d+) \(least (\d+)\)")
    if not rows:
        return None
    lines = [[f"`{name}`", what, ns, least] for what, name, ns, least in rows]
    return from_report(sources, table(["host ns a call", "", "median", "least"], lines, 2), "cublas")


def from_report(sources, text, part):
    return f"{text}\n\n{sources.report.where_from(part)} ([report]({sources.root}evidence/{sources.report.of(part).path.name}))."


def counters_block(part):
    def block(sources):
        rows = sources.counters.of(part)
        if not rows:
            return None
        head = [
            "case",
            "kernel",
            "us",
            "DRAM %",
            "L2 %",
            "SM %",
            "tensor cores %",
            "occupancy %",
            "registers",
            "stalls",
        ]
        lines = []
        for row in rows:
            stalls = ", ".join(f"{name} {percent_of}" for name, percent_of in row.get("stalls", []))
            lines.append(
                [
                    in_words(row["case"]),
                    f"`{row['kernel']}`",
                    number(row.get("time_us")),
                    *(
                        number(row.get(name))
                        for name in (
                            "dram_throughput_pct",
                            "l2_throughput_pct",
                            "sm_throughput_pct",
                            "tensor_pct",
                            "occupancy_pct",
                        )
                    ),
                    str(row.get("registers") or ""),
                    stalls,
                ]
            )
        link = f"[numbers]({sources.root}evidence/{sources.counters.path.name})"
        return table(head, lines, 2) + f"\n\n{sources.counters.where_from()} ({link})."

    return block


HEADLINE = [  # what, document, part, case, how, ours, peer
    (
        "prefill of 32768 tokens, 16 and 32 heads",
        "gpu",
        "prefill",
        {"sequences": 1, "tokens": 32768, "key_heads": 16, "value_heads": 32},
        "graph",
        "triton_chunked",
        "FLA",
    ),
    (
        "the same of 32 sequences of 512",
        "gpu",
        "prefill",
        {"sequences": 32, "tokens": 512, "key_heads": 16, "value_heads": 32},
        "graph",
        "triton_chunked",
        "FLA",
    ),
    (
        "a decode step of 64 sequences",
        "gpu",
        "decode",
        {"batch": 64, "key_heads": 16, "value_heads": 32},
        "graph",
        None,
        None,
    ),
    (
        "its chunk solve, 32768 tokens",
        "gpu",
        "solve",
        {"tokens": 32768, "value_heads": 32},
        ("row", "graph"),
        None,
        None,
    ),
    ("launching it, on the host", "gpu", "launch", {}, "host", "the pack's function", "cuLaunchKernelEx"),
    (
        "a call of five integers, checked",
        "cpu",
        "call",
        {"arguments": "five ints"},
        "host",
        "pega function, signature checked",
        None,
    ),
    (
        "prefill of 4096 tokens on the CPU",
        "cpu",
        "cpu",
        {"op": "prefill", "tokens": 4096, "key_heads": 16, "value_heads": 32},
        ("wall", "host"),
        None,
        "torch",
    ),
]


def time_words(ns):
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{number(ns / size)} {unit}"
    return f"{number(ns)} ns"


def headline_block(sources):
    lines, runs = [], {}
    for what, where, part, case, how, name, peer in HEADLINE:
        document = sources.document(where)
        here = document.find(part, case, how=document.first_how(part, how))
        ours = min(
            (row for row in here if row.by == "pega" and (name is None or row.name == name)),
            key=lambda row: row.value("ns"),
            default=None,
        )
        if ours is None:
            continue
        theirs = min(
            (row for row in here if row.by != "pega" and (peer is None or row.name == peer)),
            key=lambda row: row.value("ns"),
            default=None,
        )
        beside = f"{time_words(theirs.value('ns'))}, {theirs.name}" if theirs else ""
        floor = ours.value("ns", "floor")
        run = (where, ours.run["command"])
        runs.setdefault(run, (ours.run, where == "gpu"))
        note = list(runs).index(run) + 1
        lines.append([what, time_words(ours.value("ns")), beside, time_words(floor) if floor else "", str(note)])
    if not lines:
        return None
    told = [f"({i}) {evidence.where_from(run, gpu)}" for i, (run, gpu) in enumerate(runs.values(), 1)]
    return (
        table(["", "pega", "beside it", "memory's floor", "run"], lines)
        + "\n\n"
        + "; ".join(told)
        + ".\nAll of it, and what"
        f" limits each: [docs/performance.md]({sources.root}performance.md)."
    )


def chart_block(name):
    def block(sources):
        chart = next((chart for chart in sources.charts if chart.name == name), None)
        return f"![{chart.alt}]({sources.root}charts/{name}.svg)" if chart else None

    return block


BLOCKS = {  # name: (what makes it, the command that measures what it is from)
    "headline": (headline_block, "./dev bench --update"),
    "aims": (aims_block, "./dev bench --update"),
    "call": (call_block, "./dev bench call --update"),
    "launch": (
        lambda sources: steps(sources, sources.gpu, "launch", True),
        "./dev bench launch --update",
    ),
    "launch-fake": (
        lambda sources: steps(sources, sources.cpu, "launch", False),
        "./dev bench launch --update",
    ),
    "cold": (cold_block, "./dev bench cold --update"),
    "scale": (scale_block, "./dev bench scale --update"),
    "solve": (solve_block, "./dev bench solve --update"),
    "stages": (stages_block, "./dev bench stages --update"),
    "prefill": (prefill_block, "./dev bench prefill --update"),
    "prefill-forms": (prefill_forms_block, "./dev bench prefill --update"),
    "prefill-eager": (prefill_eager_block, "./dev bench prefill --update"),
    "prefill-host": (prefill_host_block, "./dev bench prefill --update"),
    "decode": (decode_block, "./dev bench decode --update"),
    "decode-row": (decode_row_block, "./dev bench decode --update"),
    "cpu-prefill": (cpu_block("prefill"), "./dev bench cpu --update"),
    "cpu-decode": (cpu_block("decode"), "./dev bench cpu --update"),
    "cpu-solve": (cpu_block("solve"), "./dev bench cpu --update"),
    "roofline": (roofline_block, "./dev bench cpu --update"),
    "indexer": (indexer_block, "./dev gpu-test"),
    "rms-norm": (rms_norm_block, "./dev gpu-test"),
    "cublas": (cublas_block, "./dev gpu-test"),
}
for _part in ("solve", "stages", "prefill", "decode"):
    BLOCKS[f"counters-{_part}"] = (counters_block(_part), "tools/bench/counters.py")
    BLOCKS[f"errors-{_part}"] = (errors_block(_part), f"./dev bench {_part} --update")
for _chart, _part in (
    ("prefill", "prefill"),
    ("solve", "solve"),
    ("decode", "decode"),
    ("threads", "scale"),
    ("scale", "scale"),
    ("cpu", "cpu"),
    ("roofline", "cpu"),
):
    BLOCKS[f"chart-{_chart}"] = (chart_block(_chart), f"./dev bench {_part} --update")


def make(name, sources):
    """The text of a block, or that it is not measured."""
    function, command = BLOCKS[name]
    return function(sources) or MISSING.format(command)
