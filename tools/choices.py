# SPDX-License-Identifier: Apache-2.0
"""Writes the table of measured times that is compiled into libpega, from a file of `pega tune`.

    python3 tools/choices.py kernels/choices/qwen35-prefill-sm_90.json \
        -o src/ops/qwen35/choices_built_in.inl

Implementations that somebody has to provide are left out: the library takes none of them by itself
(docs/tuning.md). Of a table with more rows than the library has room for (MOST) it takes those from which the choices
at all the others come out best, and prints how much slower they are than the fastest. With --check it writes nothing,
and ends with 1 where the file is another one.
"""

import argparse
import json
import math
import pathlib
import sys
import textwrap

# In the order of pega_prefill_implementations (src/ops/qwen35/prefill_choice.c).
IMPLEMENTATIONS = ("cpu_recurrent", "cpu_chunked", "cuda_recurrent", "triton_chunked",
                   "triton_fused", "triton_stages", "flashinfer", "flashinfer_cp")
PROVIDED = ("flashinfer", "flashinfer_cp")
ROOM, UNIT, NO_TIME = 8, 1024, 65535
MOST = 300  # rows, of 8 bytes each
GOOD = 1.005  # a choice that is no slower than this needs no more rows
SLOW = 1.025  # one that is slower than this needs them before all else
NEAR = 1.15  # nor is one whose expected time is so near to the true one
UNKNOWN = 9.0  # how slow what no row tells of is taken to be


# --- as the library chooses (docs/tuning.md, "The rule") ---


def curve_of(row):
    return row["sequences"] * row["value_heads"], row["value_heads"], row["key_heads"]


def on_curve(rows, tokens, name):
    """The logarithm of a time on a curve, its rows by tokens; None where it tells nothing."""
    before = [row for row in rows if row["tokens"] <= tokens]
    after = [row for row in rows if row["tokens"] >= tokens]
    if not before or name not in before[-1]["us"] or (after and name not in after[0]["us"]):
        return None
    low = math.log(before[-1]["us"][name])
    if not after:
        return low + math.log(tokens / before[-1]["tokens"])
    if after[0]["tokens"] == before[-1]["tokens"]:
        return low
    part = math.log(tokens / before[-1]["tokens"]) / math.log(after[0]["tokens"] / before[-1]["tokens"])
    return low + (math.log(after[0]["us"][name]) - low) * part


def nearest(curves, parallel, row):
    """Of the curves with so much side by side the one with the most similar heads."""
    def unlike(key):
        return abs(math.log(key[1] / row["value_heads"])) + abs(math.log(key[2] / row["key_heads"]))

    return min((key for key in curves if key[0] == parallel), key=unlike)


def choose(curves, row):
    """The implementation that is taken at a row's sizes, and the logarithm of its time; None where no curve tells."""
    parallel, _, _ = curve_of(row)
    below = max((key[0] for key in curves if key[0] <= parallel), default=None)
    above = min((key[0] for key in curves if key[0] >= parallel), default=None)
    ends = [nearest(curves, end, row) for end in (below, above) if end is not None]
    part = math.log(parallel / below) / math.log(above / below) if below and above and above > below else 0
    several = row["sequences"] > 1 and row["sequences"] * row["tokens"] > 1024
    best, taken = math.inf, None
    for name in IMPLEMENTATIONS:
        if several and name.endswith("recurrent"):
            continue
        times = [on_curve(curves[end], row["tokens"], name) for end in ends]
        if None in times:
            continue
        time = times[0] + (times[-1] - times[0]) * part
        if time < best:
            best, taken = time, name
    return taken, best


def slower(curves, row):
    """How many times as long as the fastest the choice takes."""
    taken, _ = choose(curves, row)
    return row["us"][taken] / min(row["us"].values()) if taken in row["us"] else UNKNOWN


def worse(curves, row):
    """The same, or how far the time that is expected of it is off beyond NEAR, whichever is more."""
    taken, time = choose(curves, row)
    if taken not in row["us"]:
        return UNKNOWN
    off = abs(time - math.log(row["us"][taken])) - math.log(NEAR)
    return max(row["us"][taken] / min(row["us"].values()), math.exp(off))


def thinned(rows):
    """At most MOST of the rows, in their order: the one at which the choice is worst is added, again and again."""
    if len(rows) <= MOST:
        return rows
    whole, curves = {}, {}
    for row in sorted(rows, key=lambda row: row["tokens"]):
        whole.setdefault(curve_of(row), []).append(row)
    kept = []
    while True:
        # Choices first, then the times that are told of them.
        for badness in (slower, worse):
            worst = max(rows, key=lambda row: 0 if row in kept else badness(curves, row) if curves else UNKNOWN)
            loss = badness(curves, worst) if curves else UNKNOWN
            if loss > SLOW:
                break
        of = whole[curve_of(worst)]
        # A curve that is new needs its ends.
        more = [row for row in ((worst,) if curve_of(worst) in curves else (of[0], worst, of[-1])) if row not in kept]
        more = [row for i, row in enumerate(more) if row not in more[:i]]
        if loss <= GOOD or len(kept) + len(more) > MOST or not more:
            break
        kept += more
        curves.setdefault(curve_of(worst), []).extend(more)
        curves[curve_of(worst)].sort(key=lambda row: row["tokens"])
    losses = [slower(curves, row) for row in rows]
    mean = math.exp(sum(map(math.log, losses)) / len(losses))
    over = sum(loss > 1.03 for loss in losses)
    off = max(worse(curves, row) for row in rows) * NEAR
    print(f"{len(kept)} of {len(rows)} rows: {over} choices more than 3 % slower than the fastest, {mean:.4f} x on average,"
          f" {max(losses):.2f} x at worst; expected times off by {off:.2f} x at most")
    return [row for row in rows if row in kept]


def own(row):
    return row | {"us": {name: us for name, us in row["us"].items() if name not in PROVIDED}}


def logarithm(number):
    """As pega_choices_log() has it."""
    return min(int(math.log2(number) * UNIT + 0.5), NO_TIME - 1) if number > 1 else 0


def points(table):
    known = [own(row) for row in table["rows"]]
    for row in thinned([row for row in known if row["us"]]):
        times = [NO_TIME] * ROOM
        for name, us in row["us"].items():
            times[IMPLEMENTATIONS.index(name)] = logarithm(us * UNIT)
        if any(time != NO_TIME for time in times):
            yield (logarithm(row["value_heads"] * row["sequences"]), logarithm(row["value_heads"]),
                   logarithm(row["key_heads"]), logarithm(row["tokens"]), times)


def wrapped(items):
    return "".join(line + "\n" for line in textwrap.wrap(
        ", ".join(item.replace(" ", "~") for item in items), 100, initial_indent="    ",
        subsequent_indent="    ")).replace("~", " ")


def generate(path):
    table = json.loads(path.read_text())
    device = table["device"]
    target = 0 if device["target"] == "cpu" else int(device["target"].removeprefix("sm_").rstrip("af"))
    ordered = sorted(points(table))
    measured = [i for i in range(ROOM) if any(point[4][i] != NO_TIME for point in ordered)]
    first, columns = measured[0], measured[-1] - measured[0] + 1
    curves, tokens, times = [], [], []
    for at, point in enumerate(ordered):
        if at == 0 or ordered[at - 1][:3] != point[:3]:
            curves.append(f"{{{', '.join(map(str, point[:3]))}, {at}}}")
        tokens.append(str(point[3]))
        shown = ["kNoTime" if time == NO_TIME else str(time) for time in point[4][first : first + columns]]
        times.append(f"{{{', '.join(shown)}}}")
    end = f"{{0, 0, 0, {len(ordered)}}}"
    return f"""/* SPDX-License-Identifier: Apache-2.0 */
/* Made by tools/choices.py of {path.parent.name}/{path.name}. */
/* clang-format off */
static const pega_choice_curve built_in_curves[] = {{
{wrapped(curves + [end])}}};
static const uint16_t built_in_tokens[] = {{
{wrapped(tokens)}}};
/* {", ".join(IMPLEMENTATIONS[first : first + columns])} */
static const uint16_t built_in_us[][{columns}] = {{
{wrapped(times)}}};
static const pega_choices built_in = {{
    NULL, "the library's own table ({device["name"]})", {target}, {device.get("multiprocessors", 0)}, {len(curves)},
    built_in_curves, built_in_tokens, NULL, {first}, {columns}, built_in_us[0]}};
/* clang-format on */
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = generate(options.table)
    if not options.check:
        options.output.write_text(text)
    elif options.output.read_text() != text:
        print(f"{options.output} is not what {options.table} says: run {sys.argv[0]} again")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
