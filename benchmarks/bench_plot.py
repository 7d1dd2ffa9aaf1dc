"""Draws what `bench.py` measured, as SVG: a panel of bars for each part.

    python benchmarks/bench_plot.py build/bench/figures.json docs/bench.svg

Plain SVG needs no library, and the same figures give the same file. Bars are medians over the
rounds, their thin lines the range.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from bench_rows import explained_s
from figures import Figure, Report, read

COLOURS = {
    "ours": "#0072b2", "sdpa": "#e69f00", "eager": "#f0c987", "llama.cpp": "#009e73",
    "measured": "#0072b2", "explained": "#b5b5b5", "weights, ours": "#0072b2",
    "memory reads": "#b5b5b5", "transformers": "#e69f00",
}  # fmt: skip
WIDTH, HEIGHT, MARGIN, ROOF, FLOOR = 560, 290, 46, 52, 44
COLUMNS, FOOT, MOST_STEPS = 2, 40, 5
ROOM_FOR_A_NUMBER = 17.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A value and the least and most of the rounds."""

    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars side by side: group -> series -> bar. `goal` is a line across, if any."""

    title: str
    groups: Mapping[str, Mapping[str, Bar]]
    goal: float | None = None


def bar(figure: Figure, per: float = 0.0, times: float = 1.0) -> Bar:
    """`per` by the figure's seconds, or without it the figure, `times` as large."""
    values = [per / one if per else one * times for one in figure.values]
    middle = per / figure.middle if per else figure.middle * times
    return Bar(middle, min(values), max(values))


def panels(report: Report) -> list[Panel]:
    """What is drawn."""
    sides = ("ours", "sdpa", "eager", "llama.cpp")

    def speeds(part: str, name: str, per: bool) -> dict[str, dict[str, Bar]]:
        return {
            f"{form} · {case if per else threads}{name}": {
                side: bar(some[side], case if per else 1) for side in sides if side in some
            }
            for (form, threads, case), some in report.of(part).items()
        }

    read = {
        f"{form} · {threads}t": {
            "weights, ours": bar(some["ours"], some["weights"].middle / 1e9),
            "memory reads": bar(some["reading"], times=1e-9),
        }
        for (form, threads, _), some in report.of("decode").items()
    }
    far: dict[str, dict[str, Bar]] = {}
    for (form, _, _), some in report.of("context").items():
        for name in ("ours", "sdpa"):
            more, due = (sorted(1e3 * v for v in values) for values in explained_s(some, name))
            far[f"{form} · {name}"] = {
                "measured": Bar(more[len(more) // 2], more[0], more[-1]),
                "explained": Bar(due[len(due) // 2], due[0], due[-1]),
            }
    held = {
        form: {
            title: bar(some[f"{name} peak"], times=1e-6)
            for title, name in (("ours", "ours"), ("transformers", "sdpa"))
            if f"{name} peak" in some
        }
        for (form, _, _), some in report.of("memory").items()
    }
    fixed = {
        form: {side: bar(some[side]) for side in sides if side in some}
        for (form, _, _), some in report.of("overhead").items()
    }
    return [
        panel
        for panel in (
            Panel("Decoding: tokens a second (threads)", speeds("decode", "t", False)),
            Panel("Decoding: GB a second (threads)", read),
            Panel("Prompts: tokens a second (tokens of the prompt)", speeds("prefill", "", True)),
            Panel("Sessions at once: tokens a second, all", speeds("batch", "", True)),
            Panel("A long context: ms a token more, and to read keys and values", far),
            Panel("Overhead: µs a block; at most 100 is the goal", fixed, 100.0),
            Panel("A fresh process: MB at its peak", held),
        )
        if panel.groups
    ]


def text(x: float, y: float, said: str, size: float = 11, more: str = "") -> str:
    """A line of it."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" {more}>{escape(said)}</text>'


def number(value: float) -> str:
    """A bar's value, short."""
    return f"{value:.0f}" if abs(value) >= 30 else f"{value:.1f}"


def round_step(most: float) -> float:
    """The smallest round number that covers `most` in so many steps."""
    least = most / MOST_STEPS
    power = 10.0 ** math.floor(math.log10(least))
    return power * next(one for one in (1.0, 2.0, 2.5, 5.0, 10.0) if one * power >= least * 0.999)


def drawn(panel: Panel) -> list[str]:
    """One panel, its upper left corner at 0, 0."""
    names = list(dict.fromkeys(name for series in panel.groups.values() for name in series))
    most = max(one.most for series in panel.groups.values() for one in series.values())
    most = max(most, panel.goal or 0.0, 1e-9)
    each = round_step(most)
    steps = math.ceil(most / each * 0.999)
    top = steps * each
    high, wide = HEIGHT - ROOF - FLOOR, WIDTH - 2 * MARGIN

    def y(value: float) -> float:
        return ROOF + high * (1 - max(value, 0.0) / top)

    lines = [text(MARGIN, 18, panel.title, 14, 'font-weight="bold"')]
    across = MARGIN
    for name in names:
        lines.append(f'<rect x="{across}" y="26" width="10" height="10" fill="{COLOURS[name]}"/>')
        lines.append(text(across + 14, 35, name))
        across += 30 + 7 * len(name)
    for place in range(steps + 1):
        at = y(each * place)
        lines.append(f'<path d="M{MARGIN} {at:.1f}h{wide}" stroke="#ddd"/>')
        lines.append(text(MARGIN - 5, at + 4, f"{each * place:g}", 10, 'text-anchor="end"'))
    if panel.goal is not None:
        lines.append(
            f'<path d="M{MARGIN} {y(panel.goal):.1f}h{wide}" stroke="#c00" stroke-dasharray="4 3"/>'
        )
    step = wide / len(panel.groups)
    thick = min(26.0, step * 0.84 / max(len(series) for series in panel.groups.values()))
    for place, (group, series) in enumerate(panel.groups.items()):
        middle = MARGIN + step * (place + 0.5)
        lines += bars(series, middle - thick * len(series) / 2, thick, y)
        turn = f'text-anchor="end" transform="rotate(-24 {middle:.1f} {HEIGHT - FLOOR + 14})"'
        slanted = step < 9 * len(group)
        how = turn if slanted else 'text-anchor="middle"'
        lines.append(text(middle, HEIGHT - FLOOR + 14, group, 10, how))
    return lines


def bars(
    series: Mapping[str, Bar], x: float, thick: float, y: Callable[[float], float]
) -> list[str]:
    """One group from `x` on. Thin bars have a number on the first only."""
    lines = []
    for place, (name, one) in enumerate(series.items()):
        foot, at, middle = y(0), y(one.value), x + thick / 2
        lines.append(
            f'<rect x="{x:.1f}" y="{at:.1f}" width="{thick - 1:.1f}" height="{foot - at:.1f}" '
            f'fill="{COLOURS[name]}"/>'
        )
        if one.most > one.least:
            span = f"M{middle - 0.5:.1f} {y(one.least):.1f}V{y(one.most):.1f}"
            lines.append(f'<path d="{span}" stroke="#333" stroke-width="0.8"/>')
        if place == 0 or thick >= ROOM_FOR_A_NUMBER:
            over = y(one.most) - 3
            lines.append(text(middle, over, number(one.value), 7.5, 'text-anchor="middle"'))
        x += thick
    return lines


def plot(report: Report) -> str:
    """The whole picture."""
    all_of = panels(report)
    down = -(-len(all_of) // COLUMNS)
    wide, high = COLUMNS * WIDTH, down * HEIGHT + FOOT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" '
        'font-family="sans-serif" fill="#222">',
        f'<rect width="{wide}" height="{high}" fill="#fff"/>',
    ]
    for place, panel in enumerate(all_of):
        row, column = divmod(place, COLUMNS)
        lines.append(f'<g transform="translate({column * WIDTH} {row * HEIGHT})">')
        lines += [*drawn(panel), "</g>"]
    told: Sequence[str] = (f"{report.date}, {report.machine}", "; ".join(report.notes))
    for place, line in enumerate(told):
        lines.append(text(MARGIN, high - FOOT + 14 + 14 * place, line, 10))
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(plot(read(Path(sys.argv[1]))), "utf-8")
