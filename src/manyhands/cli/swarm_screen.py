"""A snapshot of the swarm as lines for a person: bars over the layers, links, what is missing.

Pure: from `/swarm`'s JSON, as whoever answered sent it, to styled text of a given width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from manyhands.cli.console import as_shown
from manyhands.cli.words import as_size

Json = Mapping[str, Any]

STATES = {"ready": ("█", "green"), "draining": ("▓", "yellow"), "fetching": ("░", "cyan")}
"""The best state first: how a layer at a peer is drawn. Held back is draining, too."""

LEAST_BAR = 8
UNLIMITED = 1 << 16
"""A width that no bar reaches: of a pipe, where nobody's screen ends."""

NAME, SIZE = 10, 10
"""Columns."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What was heard of a swarm. `tok_s` None: not known; `problem` is why nothing newer comes."""

    url: str
    swarm: Json
    tok_s: float | None = None
    problem: str | None = None


def screen(shown: Shown, width: int = UNLIMITED, height: int = UNLIMITED) -> list[Text]:
    """The lines, at most `height` of them. Raises what a mapping of another form raises."""
    swarm = shown.swarm
    lines = [_headline(shown)]
    if shown.problem is not None:
        lines.append(Text(as_shown(shown.problem), "bold yellow"))
    for model in swarm["models"]:
        lines += _model_lines(model, swarm["peers"], width)
    room = height - len(lines)
    lines += _link_lines(swarm.get("links", ()), _names(swarm["peers"]), room)
    return [_cut(line, width) for line in lines[:height]]


def _headline(shown: Shown) -> Text:
    swarm = shown.swarm
    count = len(swarm["peers"])
    parts = [f"{count} peer{'' if count == 1 else 's'}"]
    if "answering" in swarm:
        parts.append(f"{int(swarm['answering'])} answering")
    if shown.tok_s is not None:
        parts.append(f"{shown.tok_s:.1f} tok/s")
    return Text(shown.url, "bold").append(f"  {' · '.join(parts)}", "not bold")


def _model_lines(model: Json, peers: Sequence[Json], width: int) -> list[Text]:
    layers = int(model["layers"])
    cells = _cells(layers, width - NAME - SIZE - 4)
    counts = _counts(model["coverage"], layers)
    lines = [Text(), Text(f"{_line(model['name'])}  {layers} layers", "bold")]
    if len(peers) > 1:
        lines.append(_coverage(counts, cells))
    for peer in peers:
        lines += _peer_lines(peer, str(model["name"]), cells, width)
    unheld = [f"{first}:{last}" for first, last in _runs_of_none(counts)]
    if unheld:
        lines.append(Text(f"  nobody has loaded layers {', '.join(unheld)}", "bold red"))
    else:
        lines.append(Text("  every layer is held: ready to answer", "green"))
    return lines


def _cells(layers: int, room: int) -> list[range]:
    """The layers that each sign of a bar stands for; one each where there is room."""
    signs = max(1, min(layers, max(room, LEAST_BAR)))
    return [range(one * layers // signs, (one + 1) * layers // signs) for one in range(signs)]


def _counts(coverage: Sequence[Json], layers: int) -> list[int]:
    """How many peers have each layer loaded."""
    counts = [0] * layers
    for run in coverage:
        if run["state"] == "ready":
            for layer in range(int(run["first"]), min(int(run["last"]), layers)):
                counts[layer] = int(run["peers"])
    return counts


def _coverage(counts: Sequence[int], cells: Sequence[range]) -> Text:
    """How many hold each layer; of several behind one sign the worst off."""
    line = Text(f"  {'held by':{NAME}}", "dim")
    for cell in cells:
        least = min(counts[layer] for layer in cell)
        style = "bold white on red" if not least else "not dim"
        line.append(str(least) if least < 10 else "+", style)
    return line


def _peer_lines(peer: Json, model: str, cells: Sequence[range], width: int) -> list[Text]:
    held = [one for one in peer["holdings"] if one["model"] == model]
    line = Text(f"  {set_cell_size(_name(peer), NAME - 1)} ")
    for cell in cells:
        line.append(*_sign(held, cell))
    size = as_size(peer["device"]["memory_bytes"] - peer["room_bytes"])
    line.append(f"  {size:>{SIZE - 1}}")
    called = "this one" if peer["is_me"] else _line(peer.get("name", ""))
    for word in (called, _line(peer["kernels"])):
        if word and line.cell_len + 2 + cell_len(word) <= width:
            line.append(f"  {word}", "dim")
    if not peer.get("paused"):
        return [line]
    why = f"gives nothing now: {_line(peer['paused'])}"
    return [line, Text(f"  {'':{NAME}}{why}", "yellow")]


def _sign(held: Sequence[Json], cell: range) -> tuple[str, str]:
    states = {one["state"] for one in held if one["first"] < cell.stop and cell.start < one["last"]}
    return next((STATES[state] for state in STATES if state in states), ("·", "dim"))


def _runs_of_none(counts: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for layer, count in enumerate(counts):
        if count:
            continue
        if runs and runs[-1][1] == layer:
            runs[-1] = runs[-1][0], layer + 1
        else:
            runs.append((layer, layer + 1))
    return runs


def _link_lines(links: Sequence[Json], names: Mapping[str, str], room: int) -> list[Text]:
    """One line for the two ways between two peers, the slowest first."""
    found = {(link["source"], link["target"]): link for link in links}
    pairs = sorted({tuple(sorted(ends)) for ends in found if set(ends) <= set(names)})
    ways = [[found[ends] for ends in ((a, b), (b, a)) if ends in found] for a, b in pairs if a != b]
    if not ways or room < 3:
        return []
    ways.sort(key=lambda both: -max(float(way["latency_s"]) for way in both))
    fits = ways if len(ways) <= room - 2 else ways[: room - 3]
    lines = [Text(), Text("links", "bold")]
    lines += [_link_line(both, names) for both in fits]
    if len(fits) < len(ways):
        lines.append(Text(f"  and {len(ways) - len(fits)} quicker ones", "dim"))
    return lines


def _link_line(both: Sequence[Json], names: Mapping[str, str]) -> Text:
    first = both[0]
    source, target = (set_cell_size(names[first[end]], NAME - 1) for end in ("source", "target"))
    arrow = "⇄" if len(both) == 2 else "→"
    latency = " / ".join(f"{float(way['latency_s']) * 1e3:.1f}" for way in both)
    rate = " / ".join(f"{float(way['rate_bytes_per_s']) / 1e6:.0f}" for way in both)
    return Text(f"  {source} {arrow} {target} {latency:>13} ms  {rate:>11} MB/s")


def _names(peers: Sequence[Json]) -> dict[str, str]:
    return {peer["id"]: _name(peer) for peer in peers if "id" in peer}


def _name(peer: Json) -> str:
    return _line(peer["short"])


def _line(text: object) -> str:
    """Others' words on one line."""
    return " ".join(as_shown(str(text)).split())


def _cut(line: Text, width: int) -> Text:
    if line.cell_len > width:
        line.truncate(width, overflow="ellipsis")
    return line
