# SPDX-License-Identifier: Apache-2.0
"""Result documents of `pega bench --json`, as docs/evidence keeps them.

A file holds one document, or {"schema_version": 1, "runs": [document...]} with the rows of several runs, newest
first; a part (prefill, solve, ...) is then the newest run's that has it. Each document says its command, date, commit
and machine, so that every figure can.
"""

import dataclasses
import json
import pathlib

SCALE = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}  # to ns


# Bytes a second that floors are reckoned with, where it is not what a copy measured. docs/benchmark.md
FLOOR_RATES = {"NVIDIA H100 80GB HBM3": 3.0e12}
SOLVE_TILE = 18432  # bytes that a solve moves of 64 x 64


def floor_of(run, row):
    """A row's floor in its unit by that definition; older documents had others."""
    gpu = run["machine"].get("gpu") or {}
    case = row["case"]
    rate = FLOOR_RATES.get(gpu.get("name"))
    if row.get("floor") is None or rate is None or row["part"] not in ("solve", "stages", "prefill", "decode"):
        return row.get("floor")
    if row["part"] == "solve" or case.get("stage") == "solve":
        return case["tokens"] / 64 * case["value_heads"] * SOLVE_TILE / rate * 1e9 / SCALE[row["unit"]]
    return row["floor"] * gpu.get("floor_bytes_per_second", rate) / rate


# Parts of peers that are left out before they can say so.
PEERS = {
    "FLA": ["solve", "prefill", "decode"],
    "FlashInfer": ["prefill", "decode"],
    "Triton launcher": ["launch"],
    "tvm-ffi cubin_launcher": ["launch"],
    "torch": ["cpu"],
}


class Problem(Exception):
    """What is wrong with a document or a page, for whoever runs the tool."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement, or why there is none."""

    run: dict  # the document that it is from
    part: str
    case: dict
    name: str
    by: str
    how: str
    unit: str
    median: float | None
    low: float | None
    high: float | None
    floor: float | None
    left_out: str | None
    other: dict  # fields of one part alone

    def value(self, unit=None, field="median"):
        """Median, low, high or floor in `unit`, a time; None where it is not there."""
        got = getattr(self, field)
        if got is None or unit is None or unit == self.unit:
            return got
        if unit not in SCALE or self.unit not in SCALE:
            raise Problem(f"{self.part}, {self.name}: cannot give {self.unit} in {unit}")
        return got * SCALE[self.unit] / SCALE[unit]

    def matches(self, where):
        """Whether the case has each key of `where` with that value, one of a list, or from a least one on."""
        for key, wanted in where.items():
            got = self.case.get(key)
            if isinstance(wanted, dict):
                if not isinstance(got, (int, float)) or got < wanted["from"]:
                    return False
            elif got not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True


FIELDS = {"part", "case", "name", "by", "how", "unit", "median", "low", "high", "samples", "floor", "left_out"}


# What the fake driver, which runs no kernel, has figures of: the host's part.
HOST_PARTS = ("call", "launch", "scale", "cpu")


def is_fake(gpu):
    """Whether it is the fake driver, whatever the document says of it."""
    return bool(gpu.get("fake")) or str(gpu.get("name", "")).startswith("Fake GPU")


def below_floor(row):
    """Whether it took less time than its bytes do, though no cache had them: something is wrong with it."""
    return bool(row.other.get("rotated")) and row.floor is not None and row.median < row.floor


def read_row(run, row, where):
    if (
        not isinstance(row.get("part"), str)
        or not isinstance(row.get("case"), dict)
        or not isinstance(row.get("name"), str)
    ):
        raise Problem(f"{where}: a row needs a part, a case and a name, got {json.dumps(row)[:200]}")
    measured = isinstance(row.get("median"), (int, float)) and isinstance(row.get("unit"), str)
    if measured == isinstance(row.get("left_out"), str):
        raise Problem(
            f"{where}: a row has either a median with its unit or the reason why it is left out, got {json.dumps(row)[:200]}"
        )
    if measured and is_fake(run["machine"].get("gpu") or {}) and row["part"] not in HOST_PARTS:
        raise Problem(f"{where}: figures of {row['part']} from the fake driver, where no kernel runs, mean nothing: refused")
    other = {key: value for key, value in row.items() if key not in FIELDS}
    return Row(
        run,
        row["part"],
        row["case"],
        row["name"],
        row.get("by") or "pega",
        row.get("how") or "",
        row.get("unit") or "",
        row.get("median"),
        row.get("low"),
        row.get("high"),
        floor_of(run, row),
        row.get("left_out"),
        other,
    )


class Document:
    """The rows of a file."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.rows, self.peers = [], []
        taken = set()
        for run in read_runs(self.path):
            parts = {row.get("part") for row in run["rows"]} - taken
            taken |= parts
            rows = [read_row(run, row, self.path) for row in run["rows"] if row.get("part") in parts]
            seen = set()
            for row in rows:
                key = (row.part, json.dumps(row.case, sort_keys=True), row.name, row.how)
                if key in seen:
                    raise Problem(f"{self.path}: twice in one run: {key}")
                seen.add(key)
            self.rows += rows

    def find(self, part, where=None, name=None, by=None, how=None):
        """Measured rows, in the document's order."""
        return [
            row
            for row in self.rows
            if row.part == part
            and row.median is not None
            and row.matches(where or {})
            and (name is None or row.name == name)
            and (by is None or row.by == by)
            and (how is None or row.how == how)
        ]

    def first_how(self, part, how):
        """Of several ways to measure the first that there are figures of; one alone is that one."""
        if not isinstance(how, (list, tuple)):
            return how
        return next((one for one in how if self.find(part, how=one)), how[0])

    def left_out(self, part, how=None):
        """(what, why) of all that was left out of a part, and of peers as a whole: rows, names."""
        run = self.run_of(part) or {}
        found = [
            (row, row.left_out)
            for row in self.rows
            if row.part == part and row.left_out is not None and how in (None, row.how)
        ]
        found += [
            (peer["name"], peer["left_out"])
            for peer in run.get("peers", [])
            if peer.get("left_out") and part in (peer.get("parts") or PEERS.get(peer["name"], [part]))
        ]
        return found

    def run_of(self, part):
        """The run that a part is from, or None."""
        return next((row.run for row in self.rows if row.part == part), None)


def read_runs(path):
    """The documents of a file, newest first; none where there is no file."""
    path = pathlib.Path(path)
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise Problem(f"{path}: is no JSON: {error}") from error
    runs = told["runs"] if isinstance(told, dict) and "runs" in told else [told]
    for run in runs:
        if not isinstance(run, dict) or run.get("schema_version") != 1:
            raise Problem(
                f'{path}: expected result documents with "schema_version": 1, as `pega bench --json` writes them'
            )
        for key, kind in (("command", str), ("date", str), ("machine", dict), ("rows", list)):
            if not isinstance(run.get(key), kind):
                raise Problem(f'{path}: a run has no "{key}"')
    return runs


def is_real_gpu(run):
    gpu = run["machine"].get("gpu")
    return bool(gpu) and not is_fake(gpu)


def of_threads(*documents):
    """The document with launches from several threads, that of the machine with most threads; None where none is."""
    found = [one for one in documents if any("threads" in row.case for row in one.find("scale"))]
    return max(found, key=lambda one: one.run_of("scale")["machine"].get("threads") or 0, default=None)


def where_from(run, gpu):
    """Device, date, command: the line that every block of figures has."""
    machine = run["machine"]
    told = machine["gpu"] if gpu and machine.get("gpu") else None
    if told:
        words = [told["name"]] + ([f"driver {told['driver']}"] if told.get("driver") else [])
        if told.get("sm_clock_mhz"):
            words.append(f"{told['sm_clock_mhz']} MHz")
    else:
        words = [machine["cpu"]]
        if machine.get("threads"):
            words.append(f"{machine['threads']} threads")
        if machine.get("isa"):
            words.append(machine["isa"])
    if is_fake(machine.get("gpu") or {}):
        words.append("the fake driver")
    words.append(run["date"][:10])
    if run.get("commit"):
        words.append(f"commit {run['commit'][:10]}")
    return f"{', '.join(words)}: `{run['command']}`"


def keep(path, run):
    """Puts a run into a file of docs/evidence: its parts replace those of the runs that are there."""
    if run.get("quick"):
        raise Problem("a quick run's figures mean little: not kept")
    for row in run["rows"]:
        read_row(run, row, path)
    parts = {row["part"] for row in run["rows"]}
    kept = [run]
    for older in read_runs(path):
        rows = [row for row in older["rows"] if row.get("part") not in parts]
        if rows:
            kept.append({**older, "rows": rows})
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(written(kept))


def written(runs):
    """The text of a file of runs, a row a line: such a file is read by people, too."""
    told = []
    for run in runs:
        head = json.dumps({key: value for key, value in run.items() if key != "rows"}, indent=1)
        rows = ",\n".join("  " + json.dumps(row) for row in run["rows"])
        told.append(f'{head.removesuffix(chr(10) + "}")},\n "rows": [\n{rows}\n ]\n}}')
    return '{"schema_version": 1, "runs": [\n' + ",\n".join(told) + "\n]}\n"
