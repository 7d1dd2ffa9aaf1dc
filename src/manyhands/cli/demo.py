"""`hands demo`: a model over three processes tells a story, one is killed, the story goes on.

Everything it prints happened: real processes with keys of their own, mutual TLS between them, a
real SIGKILL, and a second, undisturbed run of the same prompt to compare with.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from manyhands.cli.console import Console
from manyhands.cli.keys import key_presses
from manyhands.cli.machine import as_data, machine_report, show
from manyhands.cli.words import as_size, check_fits, check_speaks, device_here, engine_for
from manyhands.domain.ids import PeerId, short
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, even_cuts
from manyhands.domain.work import Sampling
from manyhands.engine.measure import measure
from manyhands.errors import ManyhandsError, ResourceError, UserError
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.launch.leftovers import private_folder
from manyhands.launch.local import LocalPeer, LocalPeers
from manyhands.node.answer import Answer, Request
from manyhands.node.live import until_covered
from manyhands.node.opened import open_model
from manyhands.store.builtin import STORYTELLER, folder_of, storyteller_folder
from manyhands.store.home import Home

PROMPT = "Once upon a time"
READING_TOK_S = 30.0
"""On a terminal the story is not told faster than one can read along."""


TOY = """
The storyteller is a toy of a few million numbers: it shows that the mechanism works, not how clever
a model is. `hands demo FOLDER` does the same with a real one, `hands run` lets you talk to it."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What was typed; see `hands demo --help`."""

    model: str = STORYTELLER
    prompt: str = PROMPT
    peers: int = 3
    kill: int = 2
    at: int = 130
    max_tokens: int = 400
    seed: int = 6
    temperature: float = 0.7
    with_machine: bool = True


def _check(options: DemoOptions) -> None:
    """Raise UserError for senseless options, before anything is started."""
    if not 2 <= options.peers <= 9 or not 1 <= options.kill <= options.peers:
        raise UserError(
            f"{options.peers} peers and peer {options.kill} to kill; take 2 to 9 peers, and one of "
            "them to kill"
        )
    sampling = Sampling(seed=options.seed, temperature=options.temperature)
    Request(prompt=(0,), max_tokens=options.max_tokens, sampling=sampling)


async def demo(console: Console, options: DemoOptions, settings: Settings) -> None:
    """The whole demo. Raises UserError for senseless options, and what a model folder fails by."""
    _check(options)
    folder = folder_of(options.model)
    opened = open_model(folder, settings, engine=engine_for(folder, "auto"))
    check_speaks(opened.model.spec, folder)
    spans = even_cuts(len(opened.model.spec.layers), options.peers)
    check_fits(opened.model, opened.model.spec.span, device_here(None), settings)
    with private_folder() as homes, Home(homes / "owner") as home:
        owner = found_swarm(home, opened, device_here(None), settings, Ports(), holds=False)
        async with owner as founding, LocalPeers(homes, options.peers) as peers:
            kernels = opened.model.profile.kernels
            console.say(f"{opened.name} ({kernels}): starting {options.peers} peers here …", "dim")
            for span in spans:
                await peers.start(founding.door, founding.founder.invite(), opened.folder, span)
            await _Demo(console, options, founding, peers).tell()
    if options.with_machine:
        await _tell_machine(console)
    if folder == storyteller_folder():
        console.say(TOY, "dim")


async def _tell_machine(console: Console) -> None:
    """Measure for a second, and say what would run here."""
    console.say("\nmeasuring this machine, some seconds …", "dim")
    stop = threading.Event()
    try:
        report = machine_report(await asyncio.to_thread(measure, stop=stop))
    except ResourceError as error:  # a very slow or busy machine; the story was told
        console.say(str(error), "yellow")
        return
    finally:
        stop.set()
    if console.as_json:
        console.event("machine", **as_data(report))
    else:
        show(report, console.rich)


class _Demo:
    """One showing, once the processes are started."""

    def __init__(
        self, console: Console, options: DemoOptions, founding: Founding, peers: LocalPeers
    ) -> None:
        self._console, self._options = console, options
        self._founding, self._peers = founding, peers
        self._wanted: int | None = None
        self._killed: LocalPeer | None = None
        self._killed_s = 0.0
        self._next_s: float | None = None
        self._killed_at = 0

    async def tell(self) -> None:
        """From the table of peers to the figures. Raises ManyhandsError when the texts differ."""
        await self._ready()
        self._show_peers("")
        options = self._options
        self._console.say(
            f"\nA key from 1 to {options.peers} kills that peer at once; otherwise peer "
            f"{options.kill} is killed at token {options.at}. It is told slowly, to be read.\n",
            "dim",
        )
        disturbed = self._answer()
        async with key_presses(self._pressed):
            await self._speak(disturbed)
        undisturbed = self._answer()
        started_s = time.perf_counter()
        async for _ in undisturbed.pieces():
            pass
        took_s = time.perf_counter() - started_s
        self._conclude(disturbed, undisturbed, len(undisturbed.tokens) / took_s)

    async def _ready(self) -> None:
        deadline_s = self._founding.settings.load_deadline_s
        for peer in self._peers.peers:
            await peer.ready(deadline_s)
        await until_covered(self._founding.node, self._founding.opened.model, deadline_s)

    def _answer(self) -> Answer:
        options = self._options
        sampling = {"seed": options.seed, "temperature": options.temperature}
        has_text = self._founding.opened.tokenizer is not None
        return self._founding.speaker.answer(
            options.prompt if has_text else [1, 2, 3, 4],
            options.max_tokens,
            sampling=sampling,
            as_text=has_text,
        )

    async def _speak(self, answer: Answer) -> None:
        """Tell the story, and kill somebody on the way."""
        self._console.write(self._options.prompt, "bold")
        pause_s = 1 / READING_TOK_S if self._console.is_terminal else 0.0
        async for piece in answer.pieces():
            # not the text that was held back when the last token came
            is_new = self._killed is not None and len(answer.tokens) > self._killed_at
            if is_new and self._next_s is None:
                self._next_s = time.perf_counter() - self._killed_s
            self._console.write(piece or self._as_ids(answer))
            await asyncio.sleep(pause_s)
            self._kill_if_due(len(answer.tokens))
        self._console.say("\n")

    def _as_ids(self, answer: Answer) -> str:
        is_text = self._founding.opened.tokenizer is not None
        return "" if is_text or not answer.tokens else f" {answer.tokens[-1].id}"

    def _pressed(self, key: str) -> None:
        if key.isdigit() and 1 <= int(key) <= self._options.peers:
            self._wanted = int(key)

    def _kill_if_due(self, tokens: int) -> None:
        if self._killed is not None or (self._wanted is None and tokens < self._options.at):
            return
        number = self._wanted or self._options.kill
        self._killed = self._peers.peers[number - 1]
        self._killed_at = tokens
        pid = self._killed.process.pid
        self._console.write(f" ✂ peer {number} (process {pid}) killed ", "bold red")
        self._console.event("killed", peer=number, pid=pid, at=tokens)
        self._killed_s = time.perf_counter()
        self._killed.kill()

    def _show_peers(self, title: str) -> None:
        records = self._founding.node.directory.swarm.peers
        for peer in self._peers.peers:
            name = PeerId(str(peer.told.get("peer", "")))
            record = records.get(name)
            line = f"  peer {peer.number}  process {peer.process.pid:<8} key {short(name)}  "
            if record is None or not peer.is_alive:
                self._console.say(f"{line}gone", "red")
                continue
            spans = _joined(held.span for held in record.holdings if held.state == "ready")
            layers = ", ".join(f"{span.first}:{span.last}" for span in spans)
            held_bytes = record.device.memory_bytes - record.room_bytes
            self._console.say(f"{line}layers {layers:<14} {as_size(held_bytes)}")
            self._console.event(
                "peer",
                number=peer.number,
                title=title,
                peer=name,
                pid=peer.process.pid,
                spans=[[span.first, span.last] for span in spans],
                weight_bytes=held_bytes,
            )

    def _conclude(self, disturbed: Answer, undisturbed: Answer, tok_s: float) -> None:
        ids, others = ([token.id for token in one.tokens] for one in (disturbed, undisturbed))
        is_same = ids == others
        if self._killed is None:
            self._console.say("nobody was killed: the story was over before", "yellow")
        else:
            came = f"the next token came {(self._next_s or 0) * 1e3:.0f} ms after the kill"
            if self._next_s is None:
                came = "nothing came after the kill, the story was over"
            self._console.say(f"  killed after {self._killed_at} of {len(ids)} tokens; {came}")
        self._console.write("  identical to an undisturbed run: ")
        self._console.write("yes" if is_same else "no", "bold green" if is_same else "bold red")
        self._console.say()
        self._console.say(f"  undisturbed speed: {tok_s:.0f} tokens a second\n")
        self._show_peers("after")
        self._console.event(
            "done",
            tokens=len(ids),
            killed_at=self._killed_at,
            next_token_s=self._next_s,
            recovered_s=list(disturbed.recovered_s),
            identical=is_same,
            tok_s=tok_s,
        )
        if not is_same:
            is_exact = self._founding.opened.model.profile.row_invariant
            raise ManyhandsError(difference(ids, others, is_exact=is_exact))


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Neighbouring and overlapping spans as one: what was loaded piece by piece."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.first <= joined[-1].last:
            joined[-1] = Span(joined[-1].first, max(joined[-1].last, span.last))
        else:
            joined.append(span)
    return joined


def difference(ids: Sequence[int], others: Sequence[int], *, is_exact: bool) -> str:
    """Where two answers part, and what that may be."""
    pairs = enumerate(zip(ids, others, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), min(len(ids), len(others)))
    where = f"the two texts are the same for {at} tokens and differ from there on"
    if is_exact:
        return f"{where}, which must not be; please report it with the model's name"
    return (
        f"{where}: this model's arithmetic depends on how many tokens it is given at once, so two "
        "words that are almost equally likely (a near-tie) may change places when a stand-in "
        "repeats the text"
    )
