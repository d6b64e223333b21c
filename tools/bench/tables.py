# SPDX-License-Identifier: Apache-2.0
"""Markdown tables from result documents, with the lines under them: device, date, command, aims, what was left out."""

import dataclasses

import aims as aims_of
import evidence


@dataclasses.dataclass(frozen=True)
class Sources:
    """What the blocks are made from."""

    gpu: evidence.Document
    cpu: evidence.Document
    counters: object  # counters.Counters
    report: object  # report.Report
    aims: list
    charts: list
    root: str  # from the page to docs/, "" or "docs/"

    def document(self, name):
        return self.gpu if name == "gpu" else self.cpu


def number(value, unlike=None):
    """Three figures or so: 1.23, 12.3, 123, 1234; more where it would read as `unlike`, which it is not."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    while unlike is not None and value != unlike and digits < 4 and float(f"{value:.{digits}f}") == unlike:
        digits += 1
    return f"{value:.{digits}f}"


def table(head, rows, left=1):
    """Markdown; the columns after the first `left` are numbers. Columns with nothing in them are left out."""
    kept = [i for i in range(len(head)) if i == 0 or any(row[i] for row in rows)]
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(line[i] for i in kept) + " |" for line in [head, rule, *rows])


def unique(values):
    return list(dict.fromkeys(values))


def cases_of(rows):
    """Without repetition: heads as they come, then sequences as they come, then by size."""
    cases = []
    for row in rows:
        if row.case not in cases:
            cases.append(row.case)
    groups = unique(tuple(case.get(key) for key in ("key_heads", "value_heads", "beside")) for case in cases)
    sequences = unique(case.get("sequences") for case in cases)
    return sorted(
        cases,
        key=lambda case: (
            groups.index(tuple(case.get(key) for key in ("key_heads", "value_heads", "beside"))),
            sequences.index(case.get("sequences")),
            *(case.get(key, 0) for key in ("tokens", "batch", "functions", "threads")),
        ),
    )


# --- what every block ends with ---


HOW = {
    "graph": "GPU time of a call, replays of a CUDA graph of one",
    "row": "GPU time of a call, many calls in one CUDA graph",
    "eager": "between two events around a call",
    "wall": "wall time of a call",
    "host": "host time of a call",
}


def about(sources, document, part, rows=(), how=None, unit=None, same=(), note=False, names=None, without=()):
    """The lines under a table: unit, device, date, command; spread; what was left out; the document's note."""
    run = document.run_of(part)
    rows = list(rows)
    what = ""
    gpu = run["machine"].get("gpu") or {}
    rate = (
        evidence.FLOOR_RATES.get(gpu.get("name")) or gpu.get("floor_bytes_per_second") or gpu.get("copy_bytes_per_second")
    )
    if rate and any(row.floor for row in rows):
        same = [*same, f"floor at {rate / 1e12:.2f} TB/s"]
    if rows:
        rotated = ", other memory each time" if any(row.other.get("rotated") for row in rows) else ""
        units = rows[0].unit if unit is None else unit
        words = [*([units] if units else []), HOW.get(rows[0].how, rows[0].how) + rotated, *same]
        what = f"{', '.join(words)}. "
    link = f"[numbers]({sources.root}evidence/{document.path.name})"
    beside = [
        f"{peer['name']} {peer['version']}"
        for peer in run.get("peers", [])
        if peer.get("version")
        and part in peer.get("parts", [])
        and (not rows or peer["name"] in {row.by for row in rows})
    ]
    lines = [
        f"{what}{evidence.where_from(run, document is sources.gpu)} ({link}).{spread(rows)}"
        + (f" Beside it {', '.join(beside)}." if beside else "")
    ]
    out = grouped(
        (left, why)
        for left, why in document.left_out(part, how)
        if is_shown(getattr(left, "name", left), names, without)
    )
    if out:
        lines.append("Left out: " + ". ".join(out) + ".")
    if any(evidence.below_floor(row) for row in rows):
        lines.append(f"{BELOW} less than its bytes take, though each call has other memory: not to be believed.")
    if note and run.get("notes", {}).get(part):
        lines.append(run["notes"][part])
    return "\n".join(lines)


BELOW = "†"


def is_shown(name, names, without):
    return (names is None or name in names) and name not in without


def grouped(left_out):
    """ "NAME at CASE: why", all of one reason together."""
    groups = {}
    for left, why in left_out:
        name, case = (left, None) if isinstance(left, str) else (left.name, in_words(left.case))
        names, cases = groups.setdefault(why, ([], []))
        names.append(name)
        cases.append(case)
    told = []
    for why, (names, cases) in groups.items():
        cases = unique(case for case in cases if case)
        where = f" in {len(cases)} cases" if len(cases) > 3 else f" at {'; '.join(cases)}" if cases else ""
        told.append(f"{', '.join(unique(names))}{where}: {why}")
    return told


def spread(rows):
    """How far p10 and p90 are apart, of the median."""
    widths = sorted((row.high - row.low) / row.median for row in rows if row.low is not None and row.median)
    if not widths:
        return ""
    return (
        f" p10 to p90 is {percent(widths[len(widths) // 2])} of the median in half of the figures,"
        f" {percent(widths[-1])} at most."
    )


def percent(fraction):
    return f"{100 * fraction:.1f} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"


WORDS = {"key_heads": "HK", "value_heads": "HV", "tokens": "T", "sequences": "N", "batch": "batch"}


def in_words(case):
    return ", ".join(
        f"{WORDS.get(key, key.replace('_', ' '))} = {value}" if not isinstance(value, str) else value
        for key, value in case.items()
    )


def aim_cell(sources, document, rows):
    """The aims of a table's row, each with its verdict; what other columns say already only where it is missed."""
    told = []
    for row in rows:
        for aim, value, met in aims_of.of_row(
            [aim for aim in sources.aims if sources.document(aim["document"]) is document], document, row
        ):
            if "at_most" in aim or "of_floor" in aim or not met and not is_of_error(aim):
                told.append(f"{limit_words(aim)}: {verdict(value, aim, met)}")
    return "; ".join(unique(told))


def is_of_error(aim):
    return "error_at_most" in aim or "error_of" in aim


def limit_words(aim):
    if "of_floor" in aim:
        return f"≤ {aim['of_floor']} x floor"
    if "error_at_most" in aim:
        return f"error ≤ {aim['error_at_most']:.0e}"
    if "error_of" in aim:
        return f"error ≤ {aim['error_of']}'s"
    if "times_faster" in aim:
        return f"ahead of {aim.get('than') or 'peers'}" if aim["times_faster"] == 1 else f"≥ {aim['times_faster']} x"
    if "within" in aim:
        return f"≤ {aim['within']} x the fastest"
    return f"≤ {aim['at_most']} {aim['unit']}"


def verdict(value, aim, met):
    shown = value_words(value, aim)
    return f"{shown}, met" if met else f"**{shown}, missed**"


def value_words(value, aim):
    if "at_most" in aim:
        return f"{number(value, aim['at_most'])} {aim['unit']}"
    if "error_at_most" in aim:
        return f"{value:.1e}"
    return f"{number(value, aims_of.limit(aim))} x"


# --- one table for most parts: a row a case, a column an implementation ---


def matrix(
    sources,
    document,
    part,
    columns,
    how,
    unit="us",
    where=None,
    names=None,
    without=(),
    ratios=(),
    aims=True,
    note=False,
    cases=None,
):
    """`columns`: (title, function of the case); one that is the same in each row goes below the table.

    `names` and `without`: which implementations, by name. `ratios`: pairs (peer, ours) of names, a column each where
    both are there; ours None: the fastest of ours.
    """
    how = document.first_how(part, how)
    found = [
        row
        for row in document.find(part, where, how=how)
        if is_shown(row.name, names, without) and (cases is None or row.case in cases)
    ]
    if not found:
        return None
    cases = cases_of(found)
    same = [
        f"{title} = {function(cases[0])}"
        for title, function in columns[1:]
        if len(cases) > 1 and len({function(case) for case in cases}) == 1 and function(cases[0])
    ]
    columns = columns[:1] + [
        column for column in columns[1:] if len(cases) == 1 or len({column[1](case) for case in cases}) > 1
    ]
    # The CPU's is of one algorithm on its processors, which another may go below.
    floor = "roof of this algorithm" if part == "cpu" else "floor"
    order = unique(row.name for row in document.find(part))
    ours = sorted({row.name for row in found if row.by == "pega"}, key=order.index)
    peers = sorted({row.name for row in found if row.by != "pega"}, key=order.index)
    head = [title for title, _ in columns] + [floor] + [f"`{name}`" for name in ours] + peers
    head.append(f"{'ours' if len(ours) == 1 else 'fastest of ours'} / {floor}")
    head += [f"{peer} / {mine or ('ours' if len(ours) == 1 else 'fastest of ours')}" for peer, mine in ratios] + ["aim"]
    lines = []
    for case in cases:
        here = {row.name: row for row in found if row.case == case}
        best = aims_of.fastest(here.values(), unit)
        line = [function(case) for _, function in columns]
        line.append(number(max((row.value(unit, "floor") or 0 for row in here.values()), default=0) or None))
        for name in [*ours, *peers]:
            row = here.get(name)
            shown = number(row.value(unit)) if row else ""
            mark = f" {BELOW}" if row and evidence.below_floor(row) else ""
            line.append((f"**{shown}**" if row is best and len(here) > 1 else shown) + mark)
        own = aims_of.fastest([row for row in here.values() if row.by == "pega"], unit)
        line.append(number(own.value(unit) / own.value(unit, "floor")) if own and own.floor else "")
        line += [ratio(here, peer, mine, unit) for peer, mine in ratios]
        line.append(aim_cell(sources, document, here.values()) if aims else "")
        lines.append(line)
    below = about(sources, document, part, found, how, unit, same, note, names, without)
    return f"{table(head, lines, len(columns))}\n\n{below}"


def ratio(here, peer, mine, unit):
    """How many times as long the fastest row of a peer takes."""
    theirs = aims_of.fastest([row for row in here.values() if row.by == peer], unit)
    own = here.get(mine) if mine else aims_of.fastest([row for row in here.values() if row.by == "pega"], unit)
    return number(theirs.value(unit) / own.value(unit)) if theirs and own else ""


def heads(case):
    return f"{case.get('key_heads', '')}, {case.get('value_heads', '')}"


def batch_of_tokens(case):
    return f"{case.get('sequences', 1)} x {case['tokens']}"


def key(name):
    return lambda case: str(case.get(name, ""))
