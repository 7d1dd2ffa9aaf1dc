"""The rows of RESULTS.md out of what `bench.py` measured.

    python benchmarks/bench_rows.py build/bench/figures.json

Medians over the rounds; ratios round by round, their range in brackets.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from figures import Figure, Report, ratios, read

SIDES = ("ours", "sdpa", "eager", "llama.cpp")
Sides = Mapping[str, Figure]
Row = dict[str, str]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the range of more than one value."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def rates(sides: Sides, per: float) -> Row:
    """`per` by the seconds of every side."""
    return {
        f"{name}, tok/s": f"{per / sides[name].middle:.1f}" if name in sides else ""
        for name in SIDES
    }


def to_others(sides: Sides) -> Row:
    """How many times as fast as the better of transformers' two, and as llama.cpp."""
    ours, llama = sides["ours"].values, sides.get("llama.cpp")
    better = [min(both) for both in zip(sides["sdpa"].values, sides["eager"].values, strict=True)]
    return {
        "to transformers": spread(ratios(better, ours)),
        "to llama.cpp": "" if llama is None else spread(ratios(llama.values, ours)),
    }


def decode(report: Report) -> Iterator[Row]:
    for (form, threads, _), sides in report.of("decode").items():
        seconds, reading = sides["ours"].values, sides["reading"].values
        read = [sides["weights"].middle / value for value in seconds]
        yield {
            "form": form,
            "threads": str(threads),
            **rates(sides, 1),
            **to_others(sides),
            "weights, GB/s": f"{statistics.median(read) / 1e9:.1f}",
            "memory, GB/s": f"{sides['reading'].middle / 1e9:.1f}",
            "share": spread(ratios(read, reading)),
        }


def prefill(report: Report) -> Iterator[Row]:
    for (form, threads, tokens), sides in report.of("prefill").items():
        named = {"form": form, "threads": str(threads), "prompt": str(tokens)}
        yield {**named, **rates(sides, tokens), **to_others(sides)}


def batch(report: Report) -> Iterator[Row]:
    found = report.of("batch")
    for (form, threads, sessions), sides in found.items():
        gain = ratios(found[form, threads, 1]["ours"].values, sides["ours"].values)
        yield {
            "form": form,
            "threads": str(threads),
            "sessions": str(sessions),
            **rates(sides, sessions),
            "to transformers": to_others(sides)["to transformers"],
            "to one session": spread([sessions * one for one in gain]),
        }


def explained_s(sides: Sides, name: str) -> tuple[list[float], list[float]]:
    """Seconds that a far token takes more, and those that reading its keys and values takes."""
    far, near = sides[f"{name} far"].values, sides[f"{name} near"].values
    more = [after - before for after, before in zip(far, near, strict=True)]
    return more, [sides[f"{name} kv"].middle / read for read in sides["reading"].values]


def context(report: Report) -> Iterator[Row]:
    for (form, threads, far), sides in report.of("context").items():
        for name in ("ours", "sdpa"):
            more, reading = explained_s(sides, name)
            yield {
                "form": form,
                "threads": str(threads),
                "side": name,
                "a token after 16, ms": f"{sides[f'{name} near'].middle * 1e3:.1f}",
                f"after {far:,}, ms": f"{sides[f'{name} far'].middle * 1e3:.1f}",
                "more, ms": f"{statistics.median(more) * 1e3:.1f}",
                "keys and values, MB": f"{sides[f'{name} kv'].middle / 1e6:.0f}",
                "to read them, ms": f"{statistics.median(reading) * 1e3:.1f}",
                "more : to read": spread(ratios(more, reading)),
            }


def memory(report: Report) -> Iterator[Row]:
    for (form, _, _), sides in report.of("memory").items():
        for name in ("ours", "sdpa"):
            if f"{name} peak" not in sides:
                continue
            before, loaded, peak = (
                sides[f"{name} {k}"].middle for k in ("before", "loaded", "peak")
            )
            yield {
                "form": form,
                "side": "transformers" if name == "sdpa" else name,
                "file, MB": f"{sides['file'].middle / 1e6:.0f}",
                "load, s": spread(sides[f"{name} load_s"].values),
                "load and a prompt of 64, s": spread(sides[f"{name} first_s"].values),
                "loaded, MB more": f"{(loaded - before) / 1e6:.0f}",
                "peak, MB more": f"{(peak - before) / 1e6:.0f}",
                "peak, MB": f"{peak / 1e6:.0f}",
            }


def overhead(report: Report) -> Iterator[Row]:
    for (form, _, _), sides in report.of("overhead").items():
        fixed = {f"{name}, µs": spread(sides[name].values, 0) for name in SIDES if name in sides}
        yield {"form": form, **fixed}


PARTS = {
    "Decoding": decode,
    "Prefill": prefill,
    "Many sessions": batch,
    "A long context": context,
    "A fresh process": memory,
    "What a block costs beside its arithmetic": overhead,
}


def table(title: str, rows: Sequence[Row]) -> str:
    """Without the columns that are empty in every row."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in rows)]
    return "\n".join([f"### {title}", "", *(f"| {' | '.join(line)} |" for line in lines), "\n"])


def page(report: Report) -> str:
    """Markdown: a table for each part that was measured."""
    made = {title: list(rows(report)) for title, rows in PARTS.items()}
    tables = [table(title, rows) for title, rows in made.items() if rows]
    return "".join([*tables, "\n".join([f"{report.date}, {report.machine}", *report.notes, ""])])


if __name__ == "__main__":
    print(page(read(Path(sys.argv[1]))))
