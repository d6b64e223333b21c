#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the document of profiler counters from Nsight Compute's CSV.

    counters.py --options
    counters.py -o FILE --device NAME --date DATE [--commit COMMIT] [--driver VERSION] --run "PART key=value ..." CSV [--run ...]

The first form prints what to ask ncu for. On the GPU machine, for each case:

    ncu $(python3 tools/bench/counters.py --options) PROGRAM... >prefill.csv

    counters.py -o FILE --device NAME --date DATE ... --folder FOLDER

The second reads such files, each with the part of `pega bench` and the case that it is about; the third those that
bench/profile.py left in a folder. Launches of one kernel become a row of medians:

    {"part", "case", "kernel", "launches", "time_us", "dram_throughput_pct", "dram_bytes", "l2_throughput_pct",
     "sm_throughput_pct", "tensor_pct", "occupancy_pct", "registers", "shared_bytes", "grid", "block",
     "stalls": [[reason, percent of a warp's time between two instructions], ... the three largest]}
"""

import argparse
import csv
import json
import pathlib
import re
import statistics
import sys

import evidence

# Field, ncu's metric.
METRICS = {
    "time_us": "gpu__time_duration.sum",
    "dram_throughput_pct": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "dram_bytes": "dram__bytes.sum",
    "l2_throughput_pct": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm_throughput_pct": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "occupancy_pct": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers": "launch__registers_per_thread",
    "shared_bytes": "launch__shared_mem_per_block",
    "grid": "launch__grid_size",
    "block": "launch__block_size",
}
# By section, as their names are not the same for each GPU.
SECTIONS = ("WarpStateStats", "ComputeWorkloadAnalysis")
TENSOR = re.compile(r"sm__(inst_executed_)?pipe_tensor.*\.pct_of_peak_sustained_active")
LATENCY = "smsp__average_warp_latency_per_inst_issued.ratio"
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+)_per_issue_active\.ratio")
WHOLE = ("registers", "shared_bytes", "grid", "block", "dram_bytes")
UNITS = {
    "ns": 1e-3,
    "nsecond": 1e-3,
    "us": 1,
    "usecond": 1,
    "ms": 1e3,
    "msecond": 1e3,
    "s": 1e6,
    "second": 1e6,
    "byte": 1,
    "Kbyte": 1e3,
    "Mbyte": 1e6,
    "Gbyte": 1e9,
    "byte/block": 1,
    "Kbyte/block": 1e3,
}
TOP = 3


class Counters:
    """The document, as tables read it."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        try:
            self.told = json.loads(self.path.read_text())
        except FileNotFoundError:
            self.told = {"rows": []}
        except ValueError as error:
            raise evidence.Problem(f"{path}: is no JSON: {error}") from error

    def of(self, part):
        return [row for row in self.told["rows"] if row["part"] == part]

    def where_from(self):
        told = self.told
        words = [told.get("device") or "unknown device"] + ([f"driver {told['driver']}"] if told.get("driver") else [])
        words += [told["date"]] + ([f"commit {told['commit'][:10]}"] if told.get("commit") else [])
        return f"{', '.join(words)}: `ncu`, one launch at a time, clocks as it sets them"


def number(text):
    text = text.replace(",", "")
    return float(text) if re.fullmatch(r"-?\d+(\.\d*)?([eE][-+]?\d+)?", text) else None


def read_csv(path):
    """Lines of ncu's raw page as {metric: value in us, bytes or as it is}, after what the program printed."""
    lines = path.read_text().splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise evidence.Problem(f'{path}: no line begins with "ID": expected what `ncu --csv --page raw` prints')
    table = [row for row in csv.reader(lines[start:]) if row]
    if len(table) < 2:
        raise evidence.Problem(f"{path}: ends behind its first line: expected units and launches below it")
    head, units = table[0], table[1]
    launches = []
    for row in table[2:]:
        if len(row) != len(head):
            continue  # a line of the program's after the table
        launch = {"kernel": row[head.index("Kernel Name")]}
        for name, unit, text in zip(head, units, row):
            value = number(text)
            if value is not None:
                launch[name] = value * UNITS.get(unit, 1)
        launches.append(launch)
    if not launches:
        raise evidence.Problem(f"{path}: no launch in it")
    return launches


def stalls(launches):
    """The largest reasons, each with its percent of the time from one instruction of a warp to its next."""
    shares = {}
    for launch in launches:
        for name, value in launch.items():
            reason = STALL.fullmatch(name)
            if reason and launch.get(LATENCY):
                shares.setdefault(reason.group(1).replace("_", " "), []).append(value / launch[LATENCY])
    found = [[reason, round(100 * statistics.median(values))] for reason, values in shares.items()]
    return sorted(found, key=lambda one: -one[1])[:TOP]


def row_of(part, case, kernel, launches):
    row = {"part": part, "case": case, "kernel": kernel, "launches": len(launches)}
    for field, metric in METRICS.items():
        values = [launch[metric] for launch in launches if metric in launch]
        if values:
            value = statistics.median(values)
            row[field] = round(value) if field in WHOLE else round(value, 3)
    if "time_us" not in row:
        raise evidence.Problem(f"kernel {kernel} has no {METRICS['time_us']}: ask ncu for what --options prints")
    tensor = [
        max((value for name, value in launch.items() if TENSOR.fullmatch(name)), default=None) for launch in launches
    ]
    if None not in tensor:
        row["tensor_pct"] = round(statistics.median(tensor), 3)
    row["stalls"] = stalls(launches)
    return row


def rows_of(what, path):
    words = what.split()
    case = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            raise evidence.Problem(f'--run "{what}": expected PART key=value ..., got "{word}"')
        case[key] = int(value) if value.isdigit() else value
    launches = read_csv(path)
    kernels = dict.fromkeys(launch["kernel"] for launch in launches)
    return [row_of(words[0], case, kernel, [one for one in launches if one["kernel"] == kernel]) for kernel in kernels]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", action="store_true")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    for option in ("device", "driver", "date", "commit"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--run", nargs=2, action="append", metavar=("CASE", "CSV"), default=[])
    parser.add_argument("--folder", type=pathlib.Path, help="what bench/profile.py left")
    options = parser.parse_args()
    if options.folder:
        try:
            cases = (options.folder / "cases").read_text().splitlines()
        except OSError as error:
            print(f"counters: {error}: expected the folder that bench/profile.py wrote to", file=sys.stderr)
            return 1
        for line in cases:
            name, _, case = line.partition(" ")
            options.run.append((case, options.folder / name))
    if options.options:
        sections = " ".join(f"--section {section}" for section in SECTIONS)
        print(f"--csv --page raw --target-processes all {sections} --metrics {','.join(METRICS.values())}")
        return 0
    if not options.output or not options.run or not options.date or not options.device:
        parser.error("needs -o, --device, --date and at least one --run, or --folder")
    try:
        rows = [row for what, path in options.run if what.strip() for row in rows_of(what, pathlib.Path(path))]
    except (evidence.Problem, OSError) as error:
        print(f"counters: {error}", file=sys.stderr)
        return 1
    told = {
        "schema_version": 1,
        "device": options.device,
        "driver": options.driver,
        "date": options.date,
        "commit": options.commit,
    }
    head = json.dumps(told, indent=1).removesuffix("\n}")
    options.output.write_text(
        f'{head},\n "rows": [\n' + ",\n".join("  " + json.dumps(row) for row in rows) + "\n ]\n}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
