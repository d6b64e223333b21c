# SPDX-License-Identifier: Apache-2.0
"""What each chart shows, from result documents: points, names and titles, nothing of how it is drawn."""

import dataclasses
import hashlib
import json

import evidence


@dataclasses.dataclass(frozen=True)
class Line:
    label: str
    role: str  # who it is; draw.py gives each a colour
    x: tuple
    y: tuple
    style: str = "line"  # or "floor", "points"


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    x_label: str
    y_label: str
    lines: tuple
    x_log: int = 2  # base; ticks at the points where it is 2
    y_log: bool = True


@dataclasses.dataclass(frozen=True)
class Chart:
    name: str
    title: str
    below: str  # device, date, command
    alt: str
    panels: tuple

    def digest(self):
        """Of all that is drawn: a chart in the repository says from what it was drawn."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


OURS = {
    "triton_chunked": "pega triton_chunked",
    "triton_fused": "pega triton_fused",
    "flashinfer": "pega, FlashInfer's kernel",
    "flashinfer_cp": "pega, FlashInfer's, context-parallel",
}


def label(row, alone):
    """What a line is called; ours by the name of the library where it is the only one of ours."""
    if row.by != "pega":
        return row.name
    return "pega" if alone else OURS.get(row.name, f"pega {row.name}")


def lines_of(rows, x, unit, floor=True):
    """A line a name over the cases, and the floor."""
    names = list(dict.fromkeys(row.name for row in rows))
    alone = len({row.name for row in rows if row.by == "pega"}) == 1
    lines, floors = [], {}
    for name in names:
        own = sorted((row for row in rows if row.name == name), key=lambda row: row.case[x])
        lines.append(
            Line(
                label(own[0], alone),
                name,
                tuple(row.case[x] for row in own),
                tuple(round(row.value(unit), 4) for row in own),
            )
        )
        floors |= {row.case[x]: round(row.value(unit, "floor"), 4) for row in own if row.floor}
    if floor and floors:
        at = sorted(floors)
        lines.append(Line("memory's floor", "floor", tuple(at), tuple(floors[value] for value in at), "floor"))
    return tuple(lines)


def source(run, gpu):
    return evidence.where_from(run, gpu).replace("`", "")


def described(what, lines, unit):
    """Alternative text: what a reader who sees no picture should know."""
    ends = "; ".join(
        f"{line.label} {line.y[-1]:.4g} {unit} at {line.x[-1]}" for line in lines if line.style != "points"
    )
    return f"{what}. Where each line ends: {ends}."


def gpu_chart(document, part, name, title, where, x, x_label, names=None, how="graph"):
    how = document.first_how(part, how)
    rows = [
        row for row in document.find(part, where, how=how) if names is None or row.by != "pega" or row.name in names
    ]
    if len({row.case[x] for row in rows}) < 2:
        return None
    lines = lines_of(rows, x, "us")
    panel = Panel("", x_label, "us of GPU time a call; both axes logarithmic", lines)
    return Chart(
        name,
        title,
        source(document.run_of(part), True),
        described(f"{title}, against {x_label}", lines, "us"),
        (panel,),
    )


def prefill(gpu, _cpu):
    where = {"sequences": 1, "key_heads": 16, "value_heads": 32}
    return gpu_chart(
        gpu,
        "prefill",
        "prefill",
        "Prefill of one sequence, 16 key heads, 32 value heads",
        where,
        "tokens",
        "tokens",
        set(OURS),
    )


def solve(gpu, _cpu):
    return gpu_chart(
        gpu, "solve", "solve", "Chunk solve, 32 heads", {"value_heads": 32}, "tokens", "tokens", how=("row", "graph")
    )


def decode(gpu, _cpu):
    return gpu_chart(
        gpu,
        "decode",
        "decode",
        "Decode step, 16 key heads, 32 value heads",
        {"key_heads": 16, "value_heads": 32},
        "batch",
        "sequences in the batch",
        {"cuda"},
    )


def cpu(_gpu, document):
    panels = []
    for operation, title, where in (
        ("prefill", "Prefill of one sequence", {"key_heads": 16, "value_heads": 32}),
        ("solve", "Chunk solve, 32 heads", {"value_heads": 32, "beside": None}),
    ):
        rows = document.find("cpu", {"op": operation, **where}, how=document.first_how("cpu", ("wall", "host")))
        most = max((row.case.get("threads", 0) for row in rows), default=0)
        rows = [row for row in rows if row.case.get("sequences", 1) == 1 and row.case.get("threads", 0) == most]
        if len({row.case["tokens"] for row in rows}) < 2:
            return None
        panels.append(
            Panel(title, "tokens", "ms a call; both axes logarithmic", lines_of(rows, "tokens", "ms", floor=False))
        )
    alt = " ".join(described(f"{panel.title} on the CPU, against tokens", panel.lines, "ms") for panel in panels)
    return Chart("cpu", "On the CPU", source(document.run_of("cpu"), False), alt, tuple(panels))


SCALE = {"us": "Once", "ns": "Each time"}


def scale(_gpu, document):
    """What is done once for a pack, and what each time, against its number of functions."""
    panels = []
    for unit, title in SCALE.items():
        rows = [row for row in document.find("scale") if "functions" in row.case and row.unit == unit]
        if len({row.case["functions"] for row in rows}) < 2:
            continue
        lines = []
        for name in dict.fromkeys(row.name for row in rows):
            own = sorted((row for row in rows if row.name == name), key=lambda row: row.case["functions"])
            lines.append(
                Line(
                    name,
                    name if lines else "pega",
                    tuple(row.case["functions"] for row in own),
                    tuple(round(row.median, 4) for row in own),
                )
            )
        wide = unit == "us" or is_wide([y for line in lines for y in line.y])
        label_of_y = f"{unit}; both axes logarithmic" if wide else unit
        panels.append(Panel(title, "functions in the pack", label_of_y, tuple(lines), 10, wide))
    if not panels:
        return None
    alt = " ".join(
        described(f"{panel.title}, against the number of functions", panel.lines, panel.y_label[:2]) for panel in panels
    )
    return Chart("scale", "Packs of many functions", source(document.run_of("scale"), False), alt, tuple(panels))


def is_wide(values):
    """Whether values need a logarithmic axis; else one from 0 is plainer."""
    return max(values) > 10 * min(values)


def threads(gpu, cpu_document):
    document = evidence.of_threads(cpu_document, gpu)
    if document is None:
        return None
    rows = sorted((row for row in document.find("scale") if "threads" in row.case), key=lambda row: row.case["threads"])
    if len({row.case["threads"] for row in rows}) < 2:
        return None
    lines = []
    # Ours first: the line to be grown along is one thread's of theirs.
    for name in dict.fromkeys(row.name for row in sorted(rows, key=lambda row: row.by != "pega")):
        own = [row for row in rows if row.name == name]
        role = name if lines else "pega"
        lines.append(
            Line(
                name, role, tuple(row.case["threads"] for row in own), tuple(round(row.median / 1e6, 4) for row in own)
            )
        )
    first = lines[0]
    lines.append(
        Line(
            "as many times one thread's",
            "floor",
            first.x,
            tuple(round(first.y[0] * x / first.x[0], 4) for x in first.x),
            "floor",
        )
    )
    panel = Panel("", "threads", "million launches a second, all threads together; both axes logarithmic", tuple(lines))
    run = document.run_of("scale")
    processor = f"{run['machine']['cpu']}, {run['machine'].get('threads')} threads; " if document is gpu else ""
    return Chart(
        "threads",
        "Launches from many threads",
        processor + source(run, document is gpu),
        described("Launches of all threads together, against threads", lines, "million a second"),
        (panel,),
    )


def roofline(_gpu, document):
    """Where calls lie under the roofs of the processor: operations and bytes of a call, over what it takes."""
    rows = [
        row
        for row in document.find("cpu", by="pega")
        if row.other.get("operations") and row.other.get("peak_flop_per_second")
    ]
    most = max((row.case["threads"] for row in rows), default=0)
    largest = {}  # of each operation: what the size of a case changes is its time, less so its place
    for row in rows:
        if row.case["threads"] == most:
            largest[row.case["op"]] = row
    if not largest:
        return None
    peak = max(row.other["peak_flop_per_second"] for row in largest.values()) / 1e9
    memory = max(row.other["peak_bytes_per_second"] for row in largest.values()) / 1e9
    at = [row.other["operations"] / row.other["bytes"] for row in largest.values()]
    left, right = min([*at, 1]) / 4, max([*at, peak / memory]) * 8
    lines = [
        Line(
            f"multiply-adds, {peak:.0f} GFLOP/s",
            "floor",
            (left, round(peak / memory, 4), right),
            (round(left * memory, 4), round(peak, 4), round(peak, 4)),
            "floor",
        )
    ]
    for row, x in zip(largest.values(), at):
        y = row.other["operations"] / row.value("ns")
        size = f"batch {row.case['batch']}" if "batch" in row.case else f"T = {row.case['tokens']}"
        lines.append(
            Line(
                f"{row.case['op']}, {size}: {100 * y / min(peak, memory * x):.0f} %",
                "pega",
                (round(x, 4),),
                (round(y, 4),),
                "points",
            )
        )
    panel = Panel(
        "",
        "operations a byte of memory",
        f"GFLOP/s, and percent of the roof above; the slope is a copy's {memory:.0f} GB/s; both axes logarithmic",
        tuple(lines),
        10,
    )
    alt = (
        "Roofline of the CPU. "
        + "; ".join(
            f"{line.label} of the roof, {line.x[0]:.3g} operations a byte, {line.y[0]:.4g} GFLOP/s"
            for line in lines[1:]
        )
        + "."
    )
    return Chart(
        "roofline", f"Roofline of the CPU, {most} threads", source(document.run_of("cpu"), False), alt, (panel,)
    )


def all_charts(gpu, cpu_document):
    """The charts for which something was measured."""
    found = [make(gpu, cpu_document) for make in (prefill, solve, decode, cpu, roofline, scale, threads)]
    return [chart for chart in found if chart is not None]
