# SPDX-License-Identifier: Apache-2.0
"""Draws charts as SVG with Matplotlib: equal bytes for equal data, text as text, in light and in dark.

The picture has a background of its own, so that it can be read on any page. Colours are Matplotlib's in light; a style
sheet turns each into its dark counterpart where the reader prefers that.
"""

import io
import math
import re

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402 the backend comes first

VERSION = matplotlib.__version__

# What is drawn in which colour, light and dark. Ours are the cold colours, others' the warm ones.
INK, SOFT, GRID, PAPER = "#0b0b0b", "#52514e", "#e1e0d9", "#fcfcfb"
DARK = {INK: "#f4f3ee", SOFT: "#c3c2b7", GRID: "#33332f", PAPER: "#1a1a19"}
COLOURS = {
    "pega": ("#2a78d6", "#3987e5"),
    "triton_chunked": ("#2a78d6", "#3987e5"),
    "triton_fused": ("#0a8fa8", "#22a7c0"),
    "triton": ("#2a78d6", "#3987e5"),
    "cuda": ("#2a78d6", "#3987e5"),
    "flashinfer": ("#1a9a6c", "#199e70"),
    "flashinfer_cp": ("#4a3aa7", "#9085e9"),
    "FLA": ("#eb6834", "#d95926"),
    "FlashInfer": ("#c2378a", "#d55181"),
    "FlashInfer CP": ("#b57a00", "#c98500"),
    "FlashInfer [V,K]": ("#c2378a", "#d55181"),
    "FlashInfer [K,V]": ("#b57a00", "#c98500"),
    "torch": ("#e34948", "#e66767"),
    "floor": ("#85847c", "#93928a"),
}
OTHERS = [
    ("#008300", "#2fa52f"),
    ("#7a5230", "#b08968"),
    ("#006d8f", "#3aa0c0"),
    ("#a3366b", "#cf6a99"),
    ("#6b6b00", "#a3a33a"),
]
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Verdana, sans-serif"

STYLE = {
    "svg.hashsalt": "pega",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": False,
}
HEIGHT = 3.1  # inches of an axis
MOST_TICKS = 9
LABEL_ROOM = 13.5  # points between two labels at the right


def colour(role, used):
    """A role's colour in light; `used` collects those without one of their own."""
    if role in COLOURS:
        return COLOURS[role][0]
    if role not in used:
        used[role] = OTHERS[len(used) % len(OTHERS)][0]
    return used[role]


def plain(value, _position=None):
    """1, 10, 0.5, 131072."""
    return f"{value:.0f}" if value >= 1 else f"{value:g}"


def is_main(shade):
    return shade == COLOURS["pega"][0]


def draw_line(axes, line, shade):
    if line.style == "floor":
        axes.plot(line.x, line.y, color=shade, linewidth=1.4, linestyle=(0, (4, 3)), zorder=2)
        return
    if line.style == "points":
        axes.plot(
            line.x,
            line.y,
            color=shade,
            linestyle="none",
            marker="o",
            markersize=6.5,
            markeredgecolor=PAPER,
            markeredgewidth=1,
            zorder=4,
        )
        return
    axes.plot(
        line.x,
        line.y,
        color=shade,
        linewidth=2,
        marker="o",
        markersize=5.5,
        markeredgecolor=PAPER,
        markeredgewidth=1,
        zorder=4 if is_main(shade) else 3,
    )


def apart(wanted, room):
    """Heights as near to the wanted ones as `room` between each two allows, in the same order."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups = []  # [sum of wanted, indices]: labels that lie against each other, centred on what they want
    for i in order:
        groups.append([wanted[i], [i]])
        while len(groups) > 1:
            below, above = groups[-2], groups[-1]
            top = below[0] / len(below[1]) + room * (len(below[1]) - 1) / 2
            bottom = above[0] / len(above[1]) - room * (len(above[1]) - 1) / 2
            if bottom - top >= room:
                break
            groups[-2:] = [[below[0] + above[0], below[1] + above[1]]]
    heights = [0.0] * len(wanted)
    for total, members in groups:
        start = total / len(members) - room * (len(members) - 1) / 2
        for place, i in enumerate(members):
            heights[i] = start + place * room
    return heights


def label_lines(figure, axes, lines, shades):
    """Names at the right margin, in the order of the lines' ends, each joined to its end."""
    pixels = figure.dpi / 72
    ends = [axes.transData.transform((line.x[-1], line.y[-1])) for line in lines]
    right = axes.transAxes.transform((1, 0))[0]
    heights = apart([end[1] for end in ends], LABEL_ROOM * pixels)
    inverse = axes.transAxes.inverted()
    for line, shade, end, height in zip(lines, shades, ends, heights):
        x, y = inverse.transform((right + 14 * pixels, height))
        start = inverse.transform((end[0] + 5 * pixels, end[1]))
        bend = inverse.transform((right + 2 * pixels, end[1]))
        stop = inverse.transform((right + 11 * pixels, height))
        far = right - end[0] > 30 * pixels
        axes.plot(
            [start[0], bend[0], stop[0]],
            [start[1], bend[1], stop[1]],
            transform=axes.transAxes,
            color=shade,
            linewidth=0.8,
            clip_on=False,
            zorder=1,
            linestyle=(0, (1, 2.5)) if far else "solid",
        )
        axes.text(
            x,
            y,
            line.label,
            transform=axes.transAxes,
            va="center_baseline",
            ha="left",
            color=INK if is_main(shade) else SOFT,
            fontweight="bold" if is_main(shade) else "normal",
            fontsize=9.5,
        )


def label_points(axes, lines):
    for line in lines:
        for x, y in zip(line.x, line.y):
            axes.annotate(line.label, (x, y), xytext=(7, -2), textcoords="offset points", color=INK, fontsize=9)


def scale_axes(axes, panel):
    values = sorted({x for line in panel.lines for x in line.x})
    if panel.x_log:
        axes.set_xscale("log", base=panel.x_log)
        if panel.x_log == 2:
            axes.xaxis.set_major_locator(ticker.FixedLocator(thinned(values)))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(plain))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    if panel.y_log:
        axes.set_yscale("log")
        low, high = min(y for line in panel.lines for y in line.y), max(y for line in panel.lines for y in line.y)
        below = 10 ** math.floor(math.log10(low))  # an axis that lies on its lowest grid line where that is near
        axes.set_ylim(below if low / 1.5 < 1.9 * below else low / 1.5, high * 1.5)
        # Less than two decades: 1, 2, 5 as well.
        axes.yaxis.set_major_locator(ticker.LogLocator(10, subs=(1.0,) if high / low > 60 else (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(plain))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _position: f"{value:g}"))


def thinned(values):
    """Of many values those that are a factor of 2 apart at least, of very many of 4, so that their labels have room; the
    last one always among them."""
    for factor in (1.9, 3.9):
        kept = []
        for value in reversed(values):
            if not kept or kept[-1] / value > factor:
                kept.append(value)
        if len(kept) <= MOST_TICKS:
            break
    return sorted(kept)


def draw_panel(figure, axes, panel, used, width):
    shades = [colour(line.role, used) for line in panel.lines]
    for line, shade in zip(panel.lines, shades):
        draw_line(axes, line, shade)
    scale_axes(axes, panel)
    axes.grid(axis="y")
    axes.tick_params(length=0, pad=6)
    axes.set_xlabel(panel.x_label, labelpad=6)
    axes.set_title(panel.y_label, loc="left", fontsize=9, color=SOFT, pad=8, x=-0.42 / width)
    if panel.title:
        axes.text(-0.42 / width, 1 + 0.34 / HEIGHT, panel.title, transform=axes.transAxes, fontsize=10.5, color=INK)
    named = [(line, shade) for line, shade in zip(panel.lines, shades) if is_named(panel, line)]
    label_lines(figure, axes, [line for line, _ in named], [shade for _, shade in named])
    label_points(axes, [line for line in panel.lines if line.style == "points"])


def is_named(panel, line):
    """Whether a line has its name beside it: points have it elsewhere, a line alone is what its panel's title says."""
    return line.style != "points" and (len(panel.lines) > 1 or not panel.title)


def svg(chart):
    """The chart as SVG text."""
    longest = [
        max((len(line.label) for line in panel.lines if is_named(panel, line)), default=0) for panel in chart.panels
    ]
    margins = [0.35 + 0.078 * length for length in longest]  # inches for the names at the right
    plot = 5.4 if len(chart.panels) == 1 else 3.3
    left, gap, top, bottom = 0.62, 0.62, 1.0 if any(panel.title for panel in chart.panels) else 0.72, 0.9
    width = left + sum(plot + margin for margin in margins) + gap * (len(chart.panels) - 1)
    tall = top + HEIGHT + bottom
    used = {}
    with matplotlib.rc_context(STYLE):
        figure = pyplot.figure(figsize=(width, tall))
        at = left
        for panel, margin in zip(chart.panels, margins):
            axes = figure.add_axes((at / width, bottom / tall, plot / width, HEIGHT / tall))
            draw_panel(figure, axes, panel, used, plot)
            at += plot + margin + gap
        figure.text(0.2 / width, 1 - 0.32 / tall, chart.title, fontsize=12, fontweight="bold", color=INK)
        figure.text(0.2 / width, 0.16 / tall, chart.below, fontsize=8, color=SOFT)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        pyplot.close(figure)
    return finished(out.getvalue(), chart)


def finished(text, chart):
    """Matplotlib's SVG with a title, its origin, the page's fonts and a dark form."""
    text = re.sub(r"font-family: [^;\"]*", f"font-family: {FONT}", text)
    text = re.sub(r"font: ([^;\"]*?px) [^;\"]*", rf"font: \1 {FONT}", text)
    dark = {**DARK, **dict(COLOURS.values()), **dict(OTHERS)}
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{night} !important}}'
        for light, night in dark.items()
        if f": {light}" in text
        for kind in ("fill", "stroke")
        if f"{kind}: {light}" in text
    )
    sheet = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    title = f"<title>{escaped(chart.title)}</title>\n<desc>{escaped(chart.alt)}</desc>"
    origin = f"<!-- drawn from {chart.digest()} by Matplotlib {VERSION} -->"
    head, rest = text.split("<svg ", 1)
    opening, rest = rest.split(">", 1)
    return f"{head}<svg {opening}>\n{origin}\n{title}\n{sheet}{rest}"


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
