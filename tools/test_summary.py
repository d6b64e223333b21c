# SPDX-License-Identifier: Apache-2.0
"""Says what a ctest run did: each skipped and failed test, and one closing line.

    test_summary.py PRESET JUNIT_FILE CTEST_STATUS SUMMARY_FILE
    test_summary.py --total SUMMARY_FILE PRESET...

The first form reads ctest's JUnit file, the second adds up what the first left in
build/PRESET/summary. Exit status: 0 when tests ran and none failed.
"""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def read_junit(path):
    """Returns (passed, failed, skipped): names, names with a cause, names with a reason."""
    passed, failed, skipped = [], [], []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        reasons = re.findall(r"^SKIP: *(.*?)\s*$", case.findtext("system-out") or "", re.M)
        why = case.find("skipped")
        cause = why.get("message", "") if why is not None else ""
        if status == "run":
            passed.append(name)
            skipped += [(f"part of {name}", reason) for reason in reasons]
        elif status == "disabled" or cause.startswith("SKIP_"):
            skipped.append((name, "; ".join(reasons) or cause or status))
        else:
            # A test that could not start is "notrun" too; that is a failure, not a skip.
            failed.append((name, cause or "failed"))
    return passed, failed, skipped


def show(title, rows):
    if rows:
        print(f"{title}:")
        for name, why in rows:
            print(f"  {name}: {why}")


def closing_line(passed, failed, skipped):
    return f"{passed} passed, {failed} failed, {skipped} skipped"


def one_run(preset, junit, status, summary):
    try:
        passed, failed, skipped = read_junit(junit)
    except (OSError, ElementTree.ParseError) as error:
        passed, failed, skipped = [], [("ctest", f"left no readable {junit}: {error}")], []
    if status != 0 and not failed:
        failed = [("ctest", f"ended with status {status} and named no failed test")]
    if not passed and not failed:
        failed = [("ctest", "no test ran")]
    # A skipped part belongs to a test that is counted already.
    whole = [row for row in skipped if not row[0].startswith("part of ")]
    counts = [len(passed), len(failed), len(whole)]
    Path(summary).write_text(json.dumps({"counts": counts, "failed": failed, "skipped": skipped}))
    print()
    show(f"skipped in {preset}", skipped)
    show(f"failed in {preset}", failed)
    print(closing_line(*counts))
    return 1 if failed else 0


def total(out, presets):
    sums = [0, 0, 0]
    for preset in presets:
        path = Path("build", preset, "summary")
        try:
            run = json.loads(path.read_text())
        except OSError:
            run = {"counts": [0, 1, 0], "skipped": [], "failed": [("build", "did not get to its tests")]}
        show(f"skipped in {preset}", run["skipped"])
        show(f"failed in {preset}", run["failed"])
        sums = [a + b for a, b in zip(sums, run["counts"])]
    line = closing_line(*sums)
    Path(out).write_text(line + "\n")
    print(line)
    return 1 if sums[1] else 0


def main(arguments):
    if len(arguments) > 2 and arguments[0] == "--total":
        return total(arguments[1], arguments[2:])
    if len(arguments) == 4:
        return one_run(arguments[0], arguments[1], int(arguments[2]), arguments[3])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
