# SPDX-License-Identifier: Apache-2.0
"""The aims of aims.json, beside what was measured.

An aim has an id, what it says, the document ("gpu" or "cpu") and part, "where" (keys of the case: a value, a list of
them, or {"from": least}), "how" (the first of a list that was measured), which row is judged ("name", of a list the
slowest; "fastest_of" a list; with "default" what the library takes by itself; else the fastest of ours), and one of

    "at_most": N, "unit"              the median
    "of_floor": N                     the median over the row's floor, at most
    "times_faster": N, "than": WHOM   the median of a row of WHOM ("by"; null: of any peer) over ours, at least
    "within": N                       the median over that of the fastest row of ours in that case, at most
    "error_at_most": N                the largest of the row's errors
    "error_of": WHOM                  each of its errors on the inputs that all get ("same_data") over that of the row
                                      of WHOM ("by"), the larger of them, at most 1

It is judged in every case that was measured; what is told is the worst. Nothing measured is said, too.
"""

import dataclasses
import json
import pathlib

import evidence

FILE = pathlib.Path(__file__).with_name("aims.json")


@dataclasses.dataclass(frozen=True)
class Result:
    aim: dict
    value: float | None  # the worst; None where nothing was measured
    case: dict | None
    met: bool | None
    cases: int = 0

    @property
    def word(self):
        return {None: "not measured", True: "met", False: "**missed**"}[self.met]


def read(path=FILE):
    aims = json.loads(pathlib.Path(path).read_text())
    ids = [aim["id"] for aim in aims]
    if len(set(ids)) != len(ids):
        raise evidence.Problem(f"{path}: two aims of one id")
    return aims


def limit(aim):
    for key in ("at_most", "of_floor", "times_faster", "within", "error_at_most"):
        if key in aim:
            return aim[key]
    if "error_of" in aim:
        return 1
    raise evidence.Problem(f"{aim['id']}: an aim without a limit")


def fastest(rows, unit):
    return min(rows, key=lambda row: row.value(unit), default=None)


def is_projected(row):
    """Whether it begins with other inputs, the layer's projections."""
    return row.name.endswith(", projected")


def error(row):
    """The largest of its errors, or None; what was no number counts as none."""
    return max((value for value in (row.other.get("error") or {}).values() if value is not None), default=None)


def of_same_data(ours, theirs):
    """How much larger an error of ours is than theirs at worst; None where they were not of the same inputs."""
    mine, others = ours.other.get("same_data") or {}, (theirs.other.get("same_data") or {}) if theirs else {}
    if not mine or any(mine.get(key) != others.get(key) for key in ("sequences", "tokens")):
        return None
    pairs = [(mine.get(key), others.get(key)) for key in ("output_rms", "state_rms")]
    return max(a / b for a, b in pairs) if all(a and b for a, b in pairs) else None


def is_ours(aim, row):
    if row.by != "pega":
        return False  # whatever name it goes by
    if "fastest_of" in aim:
        return row.name in aim["fastest_of"]
    if "name" in aim:
        return row.name in ([aim["name"]] if isinstance(aim["name"], str) else aim["name"])
    return not aim.get("default") or row.other.get("default") is True


def measured(aim, document):
    """(value, case, row) of each case that the aim is about and that has what it compares."""
    unit = aim.get("unit", "us")
    rows = document.find(aim["part"], aim.get("where"), how=document.first_how(aim["part"], aim.get("how")))
    cases = []
    for row in rows:
        if row.case not in cases:
            cases.append(row.case)
    for case in cases:
        here = [row for row in rows if row.case == case]
        # Of several that are named each is judged: the slowest stands for them.
        pick = max if isinstance(aim.get("name"), list) else min
        ours = pick((row for row in here if is_ours(aim, row)), key=lambda row: row.value(unit), default=None)
        if ours is None:
            continue
        value = ours.value(unit)
        if "error_of" in aim:
            value = of_same_data(ours, next((row for row in here if row.by == aim["error_of"]), None))
            if value is None:
                continue
        elif "error_at_most" in aim:
            value = error(ours)
            if value is None:
                continue
        elif "of_floor" in aim:
            if ours.floor is None:
                continue
            value /= ours.value(unit, "floor")
        elif "times_faster" in aim:
            peer = fastest(
                [row for row in here if (row.by == aim["than"] if aim.get("than") else row.by != "pega")], unit
            )
            if peer is None:
                continue
            value = peer.value(unit) / value
        elif "within" in aim:
            value /= fastest(
                [row for row in here if row.by == "pega" and is_projected(row) == is_projected(ours)], unit
            ).value(unit)
        yield value, case, ours


def judge(aim, document):
    found = list(measured(aim, document))
    if not found:
        return Result(aim, None, None, None)
    least = "times_faster" in aim  # the worst is the smallest
    value, case, _ = (min if least else max)(found, key=lambda one: one[0])
    met = value >= limit(aim) if least else value <= limit(aim)
    return Result(aim, value, case, met, len(found))


def of_row(aims, document, row):
    """Aims that are about this very row: (aim, its value, met)."""
    for aim in aims:
        if aim["part"] != row.part or not row.matches(aim.get("where", {})):
            continue
        for value, case, judged in measured(aim, document):
            if judged is row and case == row.case:
                least = "times_faster" in aim
                yield aim, value, value >= limit(aim) if least else value <= limit(aim)
