"""A small fleet with one open session, for tests of what an owner does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from manyhands.domain.messages import Message
from manyhands.domain.settings import Settings
from manyhands.domain.work import Result, Sampling, Step, Want
from manyhands.engine.sampler import draw
from manyhands.net.memory import Path
from manyhands.node.session import Session
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.hash_engine import HashEngine
from manyhands.sim.virtual_loop import run_virtual
from manyhands.wire.frame import FrameReader
from manyhands.wire.schema import decode
from node_cases import LOWER, SPEC, UPPER, model

WARM = Sampling(seed=11, temperature=3.0)


class Home:
    """Member 0 owns the session, 1 and 2 hold the halves of the model, 3 could hold anything."""

    def __init__(self, fleet: Fleet, session: Session) -> None:
        self.fleet, self.session = fleet, session
        self.seen: list[tuple[int, int, Message]] = []
        fleet.taps.append(self._tap)

    def of(self, kind: type, target: int | None = None) -> list:
        """Messages of a kind that went over a link since the session was opened."""
        return [m for _, to, m in self.seen if type(m) is kind and target in (None, to)]

    def steps(self) -> list[Step]:
        """Steps from the owner."""
        return [m for source, _, m in self.seen if type(m) is Step and source == 0]

    def lie(self, number: int, lie) -> None:
        """From now on a member answers `lie(result)` in place of every result."""
        stepping = self.fleet.nodes[number].worker._stepping
        honest = stepping._send

        def send(peer, message) -> None:
            honest(peer, lie(message) if isinstance(message, Result) else message)

        stepping._send = send

    def _tap(self, source, target, data) -> None:
        ends = self.fleet.number(source), self.fleet.number(target)
        self.seen += [(*ends, decode(frame)) for frame in FrameReader().feed(data)]


def at_home(
    test,
    settings: Settings | None = None,
    sampling: Sampling | None = None,
    context_limit: int = 0,
    prompt_length: int = 0,
    source: int = 0,
) -> None:
    """Run `test(home)` on virtual time with an open session; its model reads texts of `source`."""

    async def main():
        members = (Member(can_load=False), *(Member((s,), False) for s in (LOWER, UPPER)), Member())
        spec = replace(SPEC, source=source)
        one = replace(model(), spec=spec, load=lambda span: HashEngine(spec, span))
        fleet = Fleet(1, one, members, settings=settings, path=Path(latency_s=0.001))
        async with fleet:
            session = await fleet.nodes[0].owner.open(
                one, sampling or Sampling(), prompt_length, context_limit
            )
            await test(Home(fleet, session))

    run_virtual(main)


def true_text(
    prompt: Sequence[int], count: int, sampling: Sampling | None = None, prompt_length: int = 0
) -> list[int]:
    """What one device that holds everything says after `prompt`."""
    text = list(prompt)
    for _ in range(count):
        scores = HashEngine(SPEC, SPEC.span).forward(text, None).scores[-1]
        token = draw(
            scores,
            sampling or Sampling(),
            position=len(text),
            history=text,
            want=Want(),
            prompt_length=prompt_length,
        ).token
        text.append(token)
    return text[len(prompt) :]
