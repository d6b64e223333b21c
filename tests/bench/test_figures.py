# SPDX-License-Identifier: Apache-2.0
"""tools/bench/figures.py and counters.py, as their users run them, on documents made here."""

import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOOLS = ROOT / "tools/bench"
sys.path.insert(0, str(TOOLS))

import figures  # noqa: E402 its folder comes first

PREFILL = {"sequences": 1, "key_heads": 16, "value_heads": 32}


def row(part, case, name, median, by="pega", how="graph", unit="us", **more):
    return {"part": part, "case": case, "name": name, "by": by, "how": how, "unit": unit, "median": median, **more}


def run_of(rows, gpu="NVIDIA H100 80GB HBM3", **more):
    machine = {"cpu": "A CPU", "threads": 2, "isa": "avx2", "gpu": None}
    if gpu:
        machine["gpu"] = {"name": gpu, "driver": "580.1", "multiprocessors": 132, "fake": False}
    return {
        "schema_version": 1,
        "command": "pega bench",
        "date": "2026-11-20T05:00:00Z",
        "pega": "0.1.0",
        "commit": "c0ffee",
        "machine": machine,
        "peers": [],
        "rows": rows,
        **more,
    }


def decode_rows(batch_8=12.0):
    case = {"key_heads": 16, "value_heads": 32}
    return [
        row("decode", {"batch": 1, **case}, "cuda", 3.0, low=2.9, high=3.2, floor=1.4),
        row("decode", {"batch": 1, **case}, "FLA", 6.0, by="FLA", low=5.8, high=7.0),
        row("decode", {"batch": 8, **case}, "cuda", batch_8, low=12.0, high=12.1, floor=11.2),
        {
            "part": "decode",
            "case": {"batch": 8, **case},
            "name": "FLA",
            "by": "FLA",
            "how": "graph",
            "left_out": "out of time",
        },
    ]


class Pages:
    """A folder with two pages and documents."""

    def __init__(self, root):
        self.root = root
        (root / "docs/evidence").mkdir(parents=True)
        (root / "docs/charts").mkdir()
        self.write("README.md", "before\n\nafter\n")
        self.page("decode", "aims")
        self.document("H100", run_of(decode_rows()))

    def write(self, name, text):
        (self.root / name).write_text(text)

    def read(self, name="docs/performance.md"):
        return (self.root / name).read_text()

    def page(self, *blocks, after=""):
        text = "\n".join(f"Words.\n\n<!-- figures: {block} -->\n<!-- /figures -->\n" for block in blocks)
        self.write("docs/performance.md", text + after)

    def document(self, name, run):
        self.write(f"docs/evidence/bench-{name}.json", json.dumps(run))

    def run(self, *arguments, python=sys.executable, tools=TOOLS):
        return subprocess.run(
            [python, "-B", str(tools / "figures.py"), "--root", str(self.root), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    def fill(self):
        """Fills the blocks as the tool does, but draws nothing: Matplotlib need not be here."""
        for page, at in figures.PAGES.items():
            self.write(page, figures.rewritten(page, self.read(page), figures.sources_of(self.root, at)))
        for chart in figures.sources_of(self.root, "").charts:
            self.write(f"docs/charts/{chart.name}.svg", f"<!-- drawn from {chart.digest()} by Matplotlib 0 -->")
        return self


@pytest.fixture
def pages(tmp_path):
    return Pages(tmp_path)


def table_row(text, first):
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    assert len(lines) == 1, text
    return [cell.strip() for cell in lines[0].strip("|").split("|")]


# --- tables ---


def test_blocks_are_filled(pages):
    text = pages.fill().read()
    assert table_row(text, "1") == ["1", "1.40", "**3.00**", "6.00", "2.14", "2.00", "≤ 5 us: 3.00 us, met"]
    assert table_row(text, "8") == ["8", "11.2", "12.0", "", "1.07", "", "≤ 1.15 x floor: 1.07 x, met"]
    assert "NVIDIA H100 80GB HBM3, driver 580.1, 2026-11-20, commit c0ffee: `pega bench`" in text
    assert "Left out: FLA at batch = 8, HK = 16, HV = 32: out of time." in text
    assert "p10 to p90 is 10 % of the median in half of the figures, 20 % at most" in text
    assert text.startswith("Words.\n")
    assert pages.read("README.md") == "before\n\nafter\n"


def test_what_is_filled_agrees(pages):
    run = pages.fill().run("--check")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "as docs/evidence gives them" in run.stdout


@pytest.mark.parametrize(
    "edit", [("3.00", "2.00"), ("met", "missed"), ("2026-11-20", "2026-11-21"), ("| 8 |", "| 9 |")]
)
def test_an_edited_figure_is_found(pages, edit):
    pages.fill()
    pages.write("docs/performance.md", pages.read().replace(*edit))
    run = pages.run("--check")
    assert run.returncode == 1
    assert (
        'docs/performance.md: figures of "decode" are not what docs/evidence gives' in run.stdout
        or "aims" in run.stdout
    )
    assert edit[1] in run.stdout and "./dev bench --figures" in run.stdout


def test_newer_evidence_is_found(pages):
    pages.fill()
    pages.document("H100", run_of(decode_rows(batch_8=12.1)))
    run = pages.run("--check")
    assert run.returncode == 1
    assert "12.1" in run.stdout


def test_a_chart_that_was_not_drawn_anew_is_found(pages):
    old = pages.fill().read("docs/charts/decode.svg")
    pages.document("H100", run_of(decode_rows(batch_8=12.1)))
    pages.fill()
    assert pages.run("--check").returncode == 0
    pages.write("docs/charts/decode.svg", old)
    run = pages.run("--check")
    assert run.returncode == 1
    assert "decode.svg shows other figures" in run.stdout


def test_the_newest_run_has_a_part(pages):
    runs = [run_of(decode_rows(batch_8=11.5), date="2026-11-22"), run_of(decode_rows(), date="2026-11-21")]
    pages.document("H100", {"schema_version": 1, "runs": runs})
    text = pages.fill().read()
    assert table_row(text, "8")[2] == "11.5" and "2026-11-21" not in text


def test_readme_is_looked_at(pages):
    pages.write("README.md", "<!-- figures: headline -->\n| made up |\n<!-- /figures -->\n")
    run = pages.run("--check")
    assert run.returncode == 1
    assert 'README.md: figures of "headline"' in run.stdout


@pytest.mark.parametrize(
    "text, why",
    [
        ("<!-- figures: no-such -->\n<!-- /figures -->\n", "no block is called no-such"),
        ("<!-- figures: decode -->\n", "a block is not closed"),
    ],
)
def test_marks_that_are_wrong(pages, text, why):
    pages.write("docs/performance.md", text)
    run = pages.run("--check")
    assert run.returncode == 2
    assert why in run.stderr


def test_what_is_not_measured_is_said(pages):
    pages.page("solve")
    assert "Not measured yet: `./dev bench solve --update` does it." in pages.fill().read()


# --- aims ---


def test_a_missed_aim_wants_its_reason(pages):
    pages.document("H100", run_of(decode_rows(batch_8=12.89)))  # 1.151 x the floor
    pages.fill()
    assert table_row(pages.read(), "8")[-1] == "≤ 1.15 x floor: **1.151 x, missed**"
    run = pages.run("--check")
    assert run.returncode == 1
    assert "aim decode-8 is missed" in run.stdout and "<!-- missed: decode-8 -->" in run.stdout
    pages.page("decode", "aims", after="<!-- missed: decode-8 -->\nBecause.\n")
    assert pages.fill().run("--check").returncode == 0


def test_a_reason_for_nothing_is_found(pages):
    pages.page("decode", after="<!-- missed: decode-1 -->\nBecause.\n")
    run = pages.fill().run("--check")
    assert run.returncode == 1
    assert "a reason is given for decode-1, which is not missed" in run.stdout


def aims_told(pages):
    pages.page("aims")
    return {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:5]]
        for line in pages.fill().read().splitlines()
        if line.startswith("| ")
    }


def test_the_worst_case_counts(pages):
    rows = []
    for tokens, ours, theirs in ((64, 20.0, 42.0), (512, 35.0, 36.0), (2048, 100.0, 99.0)):
        rows += [
            row("prefill", {**PREFILL, "tokens": tokens}, "triton_chunked", ours, default=True),
            row("prefill", {**PREFILL, "tokens": tokens}, "flashinfer", ours * 0.9),
            row("prefill", {**PREFILL, "tokens": tokens}, "cuda_recurrent, projected", ours * 0.5),
            row("prefill", {**PREFILL, "tokens": tokens}, "FLA", theirs, by="FLA"),
        ]
    pages.document("H100", run_of(rows))
    told = aims_told(pages)
    assert told["the portable prefill ahead of FLA in every case"] == [
        "ahead of FLA",
        "0.99 x (of 3 cases; N = 1, HK = 16, HV = 32, T = 2048)",
        "**missed**",
    ]
    assert told["the prefill that is chosen, over the fastest there is"][1:] == [
        "1.11 x (of 3 cases; N = 1, HK = 16, HV = 32, T = 64)",
        "**missed**",
    ]
    assert told["a decode step, plain or from the projections (the faster), batch 1"][1:] == ["", "not measured"]


def test_the_portable_prefill_is_the_faster_of_its_forms(pages):
    case = {**PREFILL, "tokens": 32768}
    rows = [row("prefill", case, name, us) for name, us in
            (("triton_chunked", 1700.0), ("triton_fused", 1500.0), ("flashinfer", 900.0))]
    pages.document("H100", run_of(rows))
    assert aims_told(pages)["the portable prefill, T = 32768, 16 and 32 heads"][1:] == ["1500 us", "met"]
    pages.page("prefill")
    assert "`triton_fused`" in pages.fill().read()


def test_a_peer_by_our_name_is_not_ours(pages):
    case = {**PREFILL, "tokens": 32768}
    pages.document("H100", run_of([row("prefill", case, "triton_chunked", 3.0, by="Other")]))
    told = aims_told(pages)["the portable prefill, T = 32768, 16 and 32 heads"]
    assert "not measured" in told


def test_errors_are_judged(pages):
    case = {**PREFILL, "tokens": 64}
    pages.document(
        "H100",
        run_of(
            [
                row(
                    "solve",
                    {"tokens": 64, "value_heads": 32},
                    "pega",
                    3.0,
                    how="row",
                    error={"output": 7e-4, "output_end": 8.5e-4},
                ),
                row("prefill", case, "triton_chunked", 3.0, error={"output": 9e-3}, same_data=same(3e-3, 1e-3)),
                row("prefill", case, "FLA", 3.0, by="FLA", error={"output": 1e-9}, same_data=same(4e-3, 2e-3)),
            ]
        ),
    )
    told = aims_told(pages)
    assert told["the solve's error"] == ["error ≤ 8e-04", "8.5e-04", "**missed**"]
    assert told["the portable prefill's error no worse than FLA's"][1:] == ["0.75 x", "met"]
    pages.page("errors-prefill", after="<!-- missed: solve-error -->\n")
    assert table_row(pages.fill().read(), "FLA")[1:] == ["1.0e-09", "4.0e-03", "2.0e-03", ""]


def same(output, state, tokens=512):
    return {"sequences": 1, "tokens": tokens, "output_rms": output, "state_rms": state}


@pytest.mark.parametrize("theirs", [{"error": {"output": 4e-3}}, {"same_data": same(4e-3, 2e-3, tokens=70)},
                                    {"same_data": same(4e-3, None)}])
def test_errors_of_other_inputs_are_not_compared(pages, theirs):
    case = {**PREFILL, "tokens": 64}
    rows = [
        row("prefill", case, "triton_chunked", 3.0, error={"output": 3e-3}, same_data=same(3e-3, 1e-3)),
        row("prefill", case, "FLA", 3.0, by="FLA", **theirs),
    ]
    pages.document("H100", run_of(rows))
    assert "not measured" in aims_told(pages)["the portable prefill's error no worse than FLA's"]


def test_floors_of_older_documents_are_reckoned_anew(pages):
    rows = [
        row("solve", {"tokens": 32768, "value_heads": 32}, "triton", 110.0, how="row", floor=93.673),
        row("stages", {"stage": "solve", "tokens": 32768, "value_heads": 32}, "triton", 110.0, floor=93.673),
        row("stages", {"stage": "o", "tokens": 32768, "value_heads": 32}, "triton", 700.0, floor=800.0),
        row("decode", {"batch": 1}, "cuda", 5.0, floor=1.0),
    ]
    run = run_of(rows)
    run["machine"]["gpu"]["floor_bytes_per_second"] = 2.7e12
    pages.document("H100", run)
    told = [round(one.floor, 2) for one in figures.evidence.Document(pages.root / "docs/evidence/bench-H100.json").rows]
    assert told == [100.66, 100.66, 720.0, 0.9]
    run["machine"]["gpu"]["name"] = "NVIDIA H200"
    pages.document("H100", run)
    rows = figures.evidence.Document(pages.root / "docs/evidence/bench-H100.json").rows
    assert [one.floor for one in rows] == [93.673, 93.673, 800.0, 1.0]


# --- documents ---


def test_a_kept_run_replaces_its_parts_alone(pages):
    (pages.root / "new.json").write_text(
        json.dumps(run_of([row("solve", {"tokens": 512, "value_heads": 32}, "pega", 3.9)], date="2026-11-21T00:00:00Z"))
    )
    assert pages.run("--keep", str(pages.root / "new.json")).returncode == 0
    (pages.root / "new.json").write_text(json.dumps(run_of(decode_rows(batch_8=11.5), date="2026-11-22T00:00:00Z")))
    assert pages.run("--keep", str(pages.root / "new.json")).returncode == 0
    kept = json.loads(pages.read("docs/evidence/bench-H100.json"))["runs"]
    assert [(run["date"][:10], {one["part"] for one in run["rows"]}) for run in kept] == [
        ("2026-11-22", {"decode"}),
        ("2026-11-21", {"solve"}),
    ]
    pages.page("decode", "solve")
    text = pages.fill().read()
    assert "2026-11-22" in text and "2026-11-21" in text and "2026-11-20" not in text


@pytest.mark.parametrize("gpu, name", [(None, "cpu"), ("NVIDIA H200", "H200"), ("NVIDIA A100-SXM4-80GB", "A100")])
def test_a_run_goes_to_its_machine(pages, gpu, name):
    (pages.root / "new.json").write_text(json.dumps(run_of([row("call", {}, "pega", 3.9, unit="ns")], gpu)))
    assert f"wrote docs/evidence/bench-{name}.json" in pages.run("--keep", str(pages.root / "new.json")).stdout


def test_a_run_that_measured_nothing_changes_nothing(pages):
    before = pages.read("docs/evidence/bench-H100.json")
    (pages.root / "new.json").write_text(json.dumps(run_of([])))
    run = pages.run("--keep", str(pages.root / "new.json"))
    assert run.returncode == 0
    assert "nothing was measured" in run.stdout and pages.read("docs/evidence/bench-H100.json") == before


def test_a_fake_gpu_is_none(pages):
    run = run_of([row("launch", {}, "raw form", 49.0, unit="ns")])
    run["machine"]["gpu"]["fake"] = True
    (pages.root / "new.json").write_text(json.dumps(run))
    assert "bench-cpu.json" in pages.run("--keep", str(pages.root / "new.json")).stdout


@pytest.mark.parametrize("gpu", [{"fake": True}, {"fake": False, "name": "Fake GPU 0"}])
def test_gpu_times_of_the_fake_driver_are_refused(pages, gpu):
    run = run_of(decode_rows())
    run["machine"]["gpu"] |= gpu
    before = pages.read("docs/evidence/bench-H100.json")
    (pages.root / "new.json").write_text(json.dumps(run))
    told = pages.run("--keep", str(pages.root / "new.json"))
    assert told.returncode == 2 and "from the fake driver" in told.stderr
    assert pages.read("docs/evidence/bench-H100.json") == before
    assert not (pages.root / "docs/evidence/bench-cpu.json").exists()
    pages.document("H100", run)
    assert "from the fake driver" in pages.run("--check").stderr


def test_a_rotated_row_below_its_floor_is_marked(pages):
    case = {"tokens": 8192, "value_heads": 32}
    rows = [row("solve", case, "triton", 20.0, how="row", floor=25.2, rotated=True),
            row("solve", case, "FLA", 20.0, by="FLA", how="row", floor=25.2)]
    pages.document("H100", run_of(rows))
    pages.page("solve")
    text = pages.fill().read()
    assert table_row(text, "8192")[3:5] == ["**20.0** †", "20.0"]
    assert "† less than its bytes take" in text


@pytest.mark.parametrize(
    "change, why",
    [
        ({"schema_version": 2}, '"schema_version": 1'),
        ({"machine": None}, 'has no "machine"'),
        ({"quick": True}, "a quick run's figures mean little"),
    ],
)
def test_a_document_that_is_refused(pages, change, why):
    (pages.root / "new.json").write_text(json.dumps({**run_of(decode_rows()), **change}))
    run = pages.run("--keep", str(pages.root / "new.json"))
    assert run.returncode == 2
    assert why in run.stderr


@pytest.mark.parametrize(
    "rows, why",
    [
        ([{"part": "decode", "case": {}, "name": "cuda"}], "either a median with its unit or the reason"),
        ([{"part": "decode", "name": "cuda", "median": 1, "unit": "us"}], "needs a part, a case and a name"),
        (decode_rows() + decode_rows(), "twice in one run"),
    ],
)
def test_rows_that_are_refused(pages, rows, why):
    pages.document("H100", run_of(rows))
    run = pages.run("--check")
    assert run.returncode == 2
    assert why in run.stderr


# --- charts ---


def test_a_chart_of_other_figures_is_found(pages):
    pages.fill()
    chart = pages.root / "docs/charts/decode.svg"
    chart.write_text(chart.read_text().replace("from ", "from 0"))
    run = pages.run("--check")
    assert run.returncode == 1
    assert "docs/charts/decode.svg shows other figures" in run.stdout


def test_missing_and_foreign_charts_are_found(pages):
    pages.fill()
    (pages.root / "docs/charts/decode.svg").rename(pages.root / "docs/charts/other.svg")
    run = pages.run("--check")
    assert "docs/charts/decode.svg is missing" in run.stdout
    assert "docs/charts/other.svg: nothing in docs/evidence gives this chart" in run.stdout


def test_without_matplotlib_it_says_so(pages):
    run = pages.fill().run("--check")
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError:
        assert "no Matplotlib here" in run.stdout
        drawn = pages.run()
        assert drawn.returncode == 2
        assert "./dev bench --figures brings it" in drawn.stderr


def with_matplotlib():
    python = ROOT / "build/bench-python/bin/python3"
    found = (
        subprocess.run([python, "-c", "import matplotlib"], check=False, capture_output=True).returncode
        if python.exists()
        else 1
    )
    return python if found == 0 else None


@pytest.mark.skipif(with_matplotlib() is None, reason="no Matplotlib in build/bench-python: run ./dev bench --figures")
def test_charts_are_drawn_alike_and_compared(pages, tmp_path):
    python = with_matplotlib()
    assert pages.run(python=python).returncode == 0
    first = pages.read("docs/charts/decode.svg")
    (pages.root / "docs/charts/decode.svg").unlink()
    assert pages.run(python=python).returncode == 0
    assert pages.read("docs/charts/decode.svg") == first
    assert not re.search(r"\d{4}-\d\d-\d\dT", first), "a date of its own"
    for wanted in ("memory's floor", ">FLA<", "prefers-color-scheme: dark", "sequences in the batch", "logarithmic"):
        assert wanted in first
    assert "1 of 1 charts byte by byte" in pages.run("--check", python=python).stdout
    pages.write("docs/charts/decode.svg", first.replace("</svg>", "<!-- --></svg>"))
    run = pages.run("--check", python=python)
    assert run.returncode == 1
    assert "is not the picture" in run.stdout


def cpu_rows():
    rows = []
    for functions in (10, 10000):
        rows += [
            row("scale", {"functions": functions}, "open", functions / 2, how="host"),
            row("scale", {"functions": functions}, "look-up in the pack", 90.0, how="host", unit="ns"),
        ]
    rows += [
        row("scale", {"threads": n}, "launches of the chunk solve", 2e7 * n, how="host", unit="launches/s")
        for n in (1, 2)
    ]
    rows += [row("scale", {"threads": 4}, "launches of the chunk solve", 0, how="host", unit="launches/s")]
    del rows[-1]["median"], rows[-1]["unit"]
    rows[-1]["left_out"] = "no such threads"
    for tokens in (64, 512):
        case = {"op": "prefill", "sequences": 1, "tokens": tokens, "key_heads": 16, "value_heads": 32, "threads": 2}
        rows += [
            row(
                "cpu",
                case,
                "cpu_chunked",
                tokens * 20.0,
                how="host",
                floor=tokens * 10.0,
                operations=4e6 * tokens,
                bytes=1e5 * tokens,
                peak_flop_per_second=4e11,
                peak_bytes_per_second=4e10,
            ),
            row("cpu", case, "torch", tokens * 120.0, by="torch", how="host"),
            row(
                "cpu",
                {"op": "solve", "tokens": tokens, "value_heads": 32, "threads": 2},
                "cpu",
                tokens * 1.0,
                how="host",
            ),
        ]
    return rows


def test_threads_are_those_of_the_larger_machine(pages):
    rows = [
        row("scale", {"threads": n}, "the driver alone", 2e6 * n, by="driver", how="host", unit="launches/s")
        for n in (1, 16)
    ]
    rows += [
        row("scale", {"threads": n}, "launches of the chunk solve", 1e6 * n, how="host", unit="launches/s")
        for n in (1, 16)
    ]
    run = run_of(rows)
    run["machine"] |= {"cpu": "Another CPU", "threads": 16}
    pages.document("H100", run)
    pages.document("cpu", run_of(cpu_rows(), gpu=None))
    pages.page("scale")
    text = pages.fill().read()
    assert table_row(text, "16") == ["16", "32.0", "16.0"] and "| 2 |" not in text
    assert table_row(text, "10000")[1] == "5000"
    chart = next(one for one in figures.sources_of(pages.root, "").charts if one.name == "threads")
    names = ["launches of the chunk solve", "the driver alone", "as many times one thread's"]
    assert [line.label for line in chart.panels[0].lines] == names
    assert chart.panels[0].lines[2].y == (1, 16)
    assert chart.below.startswith("Another CPU, 16 threads; NVIDIA H100")


def test_what_the_fake_driver_showed_is_said(pages):
    rows = [
        row("launch", {"kernel": "chunk_solve"}, "cuLaunchKernelEx", 12.7, by="driver", how="host", unit="ns"),
        row("launch", {"kernel": "chunk_solve"}, "raw form", 90.0, how="host", unit="ns"),
        row("launch", {"kernel": "chunk_solve"}, "a plan", 10.2, how="host", unit="ns"),
    ]
    peers = [
        {"name": "FLA", "left_out": "No module named 'torch'"},
        {"name": "Triton launcher", "left_out": "No module named 'triton'"},
        {"name": "tvm-ffi", "version": "0.1", "parts": ["call"]},
    ]
    run = run_of(rows, peers=peers)
    run["machine"]["gpu"]["fake"] = True
    pages.document("cpu", run)
    pages.page("launch-fake", after="<!-- missed: call-raw -->\n")
    text = pages.fill().read()
    assert table_row(text, "pega, raw form") == ["pega, raw form", "90.0", "77.3", "≤ 80 ns: **90.0 ns, missed**"]
    assert table_row(text, "pega, a plan")[2:] == ["-2.50", "≤ 40 ns: 10.2 ns, met"]
    assert table_row(text, "cuLaunchKernelEx")[2] == ""
    assert "A CPU, 2 threads, avx2, the fake driver, 2026-11-20" in text
    assert "Left out: Triton launcher: No module named 'triton'." in text
    assert "Beside it" not in text
    assert pages.run("--check").returncode == 0


def test_the_cpu_s_blocks_and_charts(pages):
    pages.document("cpu", run_of(cpu_rows(), gpu=None))
    pages.page("scale", "cpu-prefill", "roofline", "chart-threads", "aims")
    text = pages.fill().read()
    assert table_row(text, "10000") == ["10000", "5000", "90.0", "≤ 20 ms: 5.00 ms, met; ≤ 100 ns: 90.0 ns, met"]
    assert table_row(text, "1") == ["1", "20.0"]
    assert "launches of the chunk solve, million launches/s" in text
    assert "Left out: launches of the chunk solve at threads = 4: no such threads." in text
    assert table_row(text, "1 x 64") == ["1 x 64", "0.64", "**1.28**", "7.68", "2.00", "6.00"]
    assert "| prefill | T = 64, threads = 2 | 40.0 | 200 | 50 % | 5.00 | 12 % | 2.00 |" in text
    assert "as many times one thread's 40 million a second at 2" in text
    assert sorted(path.stem for path in (pages.root / "docs/charts").glob("*.svg")) == [
        "cpu",
        "decode",
        "roofline",
        "scale",
        "threads",
    ]
    told = aims_told(pages)
    assert told["the prefill on the CPU beside torch"][1:] == [
        "6.00 x (of 2 cases; prefill, N = 1, T = 64, HK = 16, HV = 32, threads = 2)",
        "met",
    ]


# --- counters ---

CSV = """program's own line
==PROF== Connected to process 1
"ID","Kernel Name","gpu__time_duration.sum","dram__throughput.avg.pct_of_peak_sustained_elapsed","dram__bytes.sum",\
"launch__registers_per_thread","smsp__average_warp_latency_per_inst_issued.ratio",\
"smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio","smsp__average_warps_issue_stalled_wait_per_issue_active.ratio",\
"sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active","sm__inst_executed_pipe_tensor_op_hmma.avg.pct_of_peak_sustained_active"
"","","nsecond","%","Mbyte","register/thread","","","","%","%"
"0","walk","1,000.00","50.0","1.5","168","10.0","6.0","2.0","20.0","10.0"
"1","walk","3,000.00","70.0","1.5","168","10.0","8.0","2.0","30.0","40.0"
"2","make","500.00","90.0","2.0","64","4.0","1.0","3.0","",""
"""


def counters(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-B", str(TOOLS / "counters.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_counters_become_rows_and_a_table(pages):
    (pages.root / "prefill.csv").write_text(CSV)
    run = counters(
        pages.root,
        "-o",
        "docs/evidence/counters-H100.json",
        "--device",
        "NVIDIA H100",
        "--date",
        "2026-11-23",
        "--run",
        "prefill sequences=1 tokens=32768",
        "prefill.csv",
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads(pages.read("docs/evidence/counters-H100.json"))["rows"]
    assert rows[0] == {
        "part": "prefill",
        "case": {"sequences": 1, "tokens": 32768},
        "kernel": "walk",
        "launches": 2,
        "time_us": 2.0,
        "dram_throughput_pct": 60.0,
        "dram_bytes": 1500000,
        "registers": 168,
        "stalls": [["long scoreboard", 70], ["wait", 20]],
        "tensor_pct": 30.0,
    }
    assert rows[1]["kernel"] == "make"
    pages.page("counters-prefill")
    text = pages.fill().read()
    assert "| N = 1, T = 32768 | `walk` | 2.00 | 60.0 | 30.0 | 168 | long scoreboard 70, wait 20 |" in text
    assert "NVIDIA H100, 2026-11-23: `ncu`" in text


@pytest.mark.parametrize(
    "text, why",
    [
        ("nothing", 'no line begins with "ID"'),
        ('"ID","Kernel Name"\n', "a.csv: ends behind its first line"),
        (CSV.replace("gpu__time_duration", "other"), "ask ncu for what --options prints"),
    ],
)
def test_counters_that_are_refused(pages, text, why):
    (pages.root / "a.csv").write_text(text)
    run = counters(pages.root, "-o", "a.json", "--device", "x", "--date", "2026-11-23", "--run", "prefill", "a.csv")
    assert run.returncode == 1
    assert why in run.stderr


def test_a_folder_that_is_not_there(pages):
    run = counters(pages.root, "-o", "a.json", "--device", "x", "--date", "2026-11-23", "--folder", "none")
    assert run.returncode == 1
    assert run.stderr.startswith("counters: ") and run.stderr.count("\n") == 1 and "none/cases" in run.stderr


def test_cases_are_profiled_one_by_one(tmp_path, monkeypatch, capsys):
    """What takes too long is ended with all that it started; what was measured before is told all the same."""
    spec = importlib.util.spec_from_file_location("profile_kernels", ROOT / "bench/profile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ncu = tmp_path / "ncu"
    ncu.write_text(
        '#!/bin/sh\ncase "$*" in\n*"--call good"*) cat "$CASES" ;;\n*) sleep 600 &\necho $! >"$CHILD"; wait ;;\nesac\n'
    )
    ncu.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CHILD", str(tmp_path / "child"))
    monkeypatch.setenv("CASES", str(tmp_path / "out/cases"))
    monkeypatch.setattr(module, "SECONDS", 1)
    monkeypatch.setattr(module, "CASES", ["good a=1", "hangs a=2", "good a=3"])
    assert module.profile(tmp_path / "out", "--csv") is None
    assert (tmp_path / "out/cases").read_text() == "0.csv good a=1\n2.csv good a=3\n"
    assert (tmp_path / "out/2.csv").read_text() == "0.csv good a=1\n"  # told by then
    assert "hangs a=2: more than 1 s" in capsys.readouterr().err
    stat = pathlib.Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    deadline = time.monotonic() + 30
    while stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline, "what ncu started is still there"
        time.sleep(0.02)


def test_the_profiler_s_options_are_told():
    told = counters(ROOT, "--options").stdout.split()
    assert told[:3] == ["--csv", "--page", "raw"] and "WarpStateStats" in told
    assert "dram__throughput.avg.pct_of_peak_sustained_elapsed" in told[-1].split(",")


def test_the_tool_needs_nothing_beside_itself(pages, tmp_path):
    """The folder can be carried away: nothing in it looks for the repository but by --root."""
    shutil.copytree(TOOLS, tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    assert pages.fill().run("--check", tools=tmp_path / "tools").returncode == 0
