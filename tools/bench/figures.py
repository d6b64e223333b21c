#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes every figure of README.md and docs/performance.md, and the charts, from the documents in docs/evidence.

    figures.py [--root FOLDER]             rewrites the pages' blocks and docs/charts (needs Matplotlib)
    figures.py --check [--root FOLDER]     says what is not as the documents give it; writes nothing
    figures.py --keep FILE [--root FOLDER] puts a run of `pega bench --json` into docs/evidence; its parts replace
                                           older ones

A block lies between `<!-- figures: NAME -->` and `<!-- /figures -->`; blocks.py knows how each is made. Text outside is
people's. For an aim that is missed (aims.json) they write why, after `<!-- missed: ID ... -->` in docs/performance.md:
--check wants that for each missed aim and for no other. A chart says in a comment from what it was drawn, so that
--check needs no Matplotlib; with the one that drew it, it compares the bytes as well.
"""

import argparse
import json
import pathlib
import re
import sys

import aims
import blocks
import charts
import counters
import evidence
import report
import tables

GPU = "H100"  # whose documents the pages show
PAGES = {"README.md": "docs/", "docs/performance.md": ""}  # page: from it to docs/
BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n)(.*?)(<!-- /figures -->)", re.DOTALL)
MISSED = re.compile(r"<!-- missed: ([\w -]+?) -->")


def sources_of(root, from_page):
    documents = root / "docs/evidence"
    gpu = evidence.Document(documents / f"bench-{GPU}.json")
    cpu = evidence.Document(documents / "bench-cpu.json")
    return tables.Sources(
        gpu,
        cpu,
        counters.Counters(documents / f"counters-{GPU}.json"),
        report.Report(documents / f"gpu-test-{GPU}.txt", report.Report(documents / f"gpu-test-{GPU}-earlier.txt")),
        aims.read(),
        charts.all_charts(gpu, cpu),
        from_page,
    )


def rewritten(page, text, sources):
    """The page with its blocks as the documents give them."""
    marks = len(re.findall(r"<!-- /?figures", text))
    if marks != 2 * len(BLOCK.findall(text)):
        raise evidence.Problem(
            f"{page}: a block is not closed: each needs <!-- figures: NAME --> and <!-- /figures -->"
        )

    def block(match):
        if match.group(2) not in blocks.BLOCKS:
            raise evidence.Problem(
                f"{page}: no block is called {match.group(2)}; there are {', '.join(sorted(blocks.BLOCKS))}"
            )
        return f"{match.group(1)}{blocks.make(match.group(2), sources)}\n{match.group(4)}"

    return BLOCK.sub(block, text)


def difference(page, text, wanted):
    """The first line of each block that is not as it should be."""
    for is_block, should in zip(BLOCK.finditer(text), BLOCK.finditer(wanted)):
        if is_block.group(3) == should.group(3):
            continue
        lines = list(zip(is_block.group(3).splitlines() + [""], should.group(3).splitlines() + [""]))
        was, now = next(((a, b) for a, b in lines if a != b), lines[-1])
        yield f'{page}: figures of "{is_block.group(2)}" are not what docs/evidence gives\n  is:     {was}\n  should: {now}'


def reasons(text, sources):
    """What docs/performance.md lacks or has too much of reasons for missed aims."""
    told = {name for match in MISSED.finditer(text) for name in match.group(1).split()}
    results = [aims.judge(aim, sources.document(aim["document"])) for aim in sources.aims]
    missed = {result.aim["id"]: result for result in results if result.met is False}
    for name in sorted(set(missed) - told):
        yield (
            f"docs/performance.md: aim {name} is missed ({missed[name].aim['says']}) and no reason is given: write one"
            f" after <!-- missed: {name} -->"
        )
    for name in sorted(told - set(missed)):
        yield f"docs/performance.md: a reason is given for {name}, which is not missed: take <!-- missed: {name} --> out"


def drawing():
    """The module that draws, or None where Matplotlib is not installed."""
    try:
        import draw  # noqa: PLC0415 it needs Matplotlib, the tables do not
    except ImportError:
        return None
    return draw


def chart_problems(root, wanted, draw):
    """Charts that are missing, too many, or drawn from something else. Counts those compared byte by byte."""
    folder = root / "docs/charts"
    exact, problems = 0, []
    for path in sorted(folder.glob("*.svg")):
        if path.stem not in {chart.name for chart in wanted}:
            problems.append(f"docs/charts/{path.name}: nothing in docs/evidence gives this chart")
    for chart in wanted:
        path = folder / f"{chart.name}.svg"
        if not path.is_file():
            problems.append(f"docs/charts/{path.name} is missing")
            continue
        text = path.read_text()
        drawn = re.search(r"<!-- drawn from (\w+) by Matplotlib (\S+) -->", text)
        if not drawn or drawn.group(1) != chart.digest():
            problems.append(f"docs/charts/{path.name} shows other figures than docs/evidence gives")
        elif draw and drawn.group(2) == draw.VERSION:
            exact += 1
            if text != draw.svg(chart):
                problems.append(f"docs/charts/{path.name} is not the picture that tools/bench/draw.py draws")
    return exact, problems


def check(root):
    problems = []
    for page, from_page in PAGES.items():
        sources = sources_of(root, from_page)
        text = (root / page).read_text()
        problems += difference(page, text, rewritten(page, text, sources))
        if page == "docs/performance.md":
            problems += reasons(text, sources)
    draw = drawing()
    exact, wrong = chart_problems(root, sources.charts, draw)
    problems += wrong
    for problem in problems:
        print(problem)
    if problems:
        print(f"figures: {len(problems)} not as docs/evidence gives them: run ./dev bench --figures")
        return 1
    how = f"{exact} of {len(sources.charts)} charts byte by byte"
    if not draw:
        how = f"{len(sources.charts)} charts by what they were drawn from, not their bytes: no Matplotlib here"
    print(f"figures: as docs/evidence gives them; {how}")
    return 0


def write(root):
    draw = drawing()
    if not draw:
        raise evidence.Problem("Matplotlib is not installed here: ./dev bench --figures brings it")
    for page, from_page in PAGES.items():
        sources = sources_of(root, from_page)
        path = root / page
        text = path.read_text()
        wanted = rewritten(page, text, sources)
        if wanted != text:
            path.write_text(wanted)
            print(f"wrote {page}")
    folder = root / "docs/charts"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.svg"):
        if path.stem not in {chart.name for chart in sources.charts}:
            path.unlink()
            print(f"removed docs/charts/{path.name}")
    for chart in sources.charts:
        path = folder / f"{chart.name}.svg"
        text = draw.svg(chart)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote docs/charts/{path.name}")
    for problem in reasons((root / "docs/performance.md").read_text(), sources):
        print(problem)
    return 0


def keep(root, path):
    """Puts a run into the file of its machine."""
    runs = evidence.read_runs(path)
    if not runs:
        raise evidence.Problem(f"{path} is not there")
    for run in reversed(runs):
        if not run["rows"]:
            print(f"{path}: nothing was measured: nothing to keep")
            continue
        name = "cpu"
        if evidence.is_real_gpu(run):
            name = gpu_name(run["machine"]["gpu"]["name"])
        target = root / f"docs/evidence/bench-{name}.json"
        evidence.keep(target, run)
        print(f"wrote docs/evidence/{target.name}")
        if name not in ("cpu", GPU):
            print(f"the pages show the {GPU}'s figures: GPU in tools/bench/figures.py says whose")
    return 0


def gpu_name(told):
    """H100 of "NVIDIA H100 80GB HBM3"."""
    found = re.search(r"\b[A-Z]{1,3}\d{2,4}[A-Z]?\b", told)
    return found.group(0) if found else re.sub(r"\W+", "-", told)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--keep", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    try:
        if options.keep:
            return keep(options.root, options.keep)
        return check(options.root) if options.check else write(options.root)
    except (evidence.Problem, OSError, json.JSONDecodeError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
