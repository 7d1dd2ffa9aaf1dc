"""Steps at a stage: let in by the rules, computed together, passed on to the next or the owner.

Knows nothing of the queue they come from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from manyhands.codec import codec
from manyhands.domain.ids import ModelId, PeerId, short
from manyhands.domain.messages import Gap, Message, Refused, Replay, Replayed, Rewire
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Result, SessionOpen, Step, Want
from manyhands.engine.compute import Compute
from manyhands.engine.engine import Engine, Output
from manyhands.errors import ManyhandsError, ProtocolError, ResourceError
from manyhands.node.head import answer, chunk_of, outline
from manyhands.node.memories import Memories
from manyhands.node.peers import Clock
from manyhands.node.rules import Rules
from manyhands.node.stage import Ruling, StageMemory
from manyhands.plan.recovery import chunks

log = logging.getLogger(__name__)

Send = Callable[[PeerId, Message], None]

Took = Callable[[ModelId, Span, int, float], None]
"""Hears of one token alone: model, span, tokens in memory before it, and the seconds it took."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that is going to be computed, and what to call when it is worked off."""

    step: Step
    memory: StageMemory
    done: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a step came to: rows for the next stage, a result for the owner, or an error."""

    rows: TensorFrame | None = None
    result: Result | None = None
    error: ManyhandsError | None = None


def refuse(
    send: Send,
    owner: PeerId,
    message: SessionOpen | Rewire | Replay | Step,
    error: ManyhandsError,
) -> None:
    """Tell the owner that something was not done, and why."""
    log.info("session %s is refused: %s", short(message.session), error)
    send(owner, Refused(message.session, message.epoch, message.stage, error.code, str(error)))


class Stepping:
    """The way of a step through this peer."""

    def __init__(
        self,
        memories: Memories,
        compute: Compute,
        clock: Clock,
        settings: Settings,
        send: Send,
        rules: Rules,
        took: Took,
    ) -> None:
        self._took = took
        self._memories, self._compute = memories, compute
        self._clock, self._settings = clock, settings
        self._send, self._rules = send, rules
        self.running_since_s: float | None = None

    def let_in(self, source: PeerId, step: Step) -> StageMemory | None:
        """The memory a step is for, if it comes from the stage before and the rules let it in."""
        memory = self._memories.at(step.session, step.stage)
        if memory is None or source != memory.stage_before:
            return None  # closed or not open; or of an older route: its epoch is over as well
        if step.epoch < self._memories.newest(step.session) and self._rules.drop_old_epochs:
            return None
        match memory.judge(step):
            case Ruling.DROP:
                return None
            case Ruling.GAP:
                gap = Gap(memory.session, memory.epoch, memory.stage, memory.length)
                self._send(memory.owner, gap)
                return None
            case Ruling.TAKE:
                memory.begin(step, self._clock())
                return memory

    async def run(self, engine: Engine, taken: list[Taken]) -> None:
        """Compute, commit, pass on. A batch that fails is redone one by one."""
        self.running_since_s = started_s = self._clock()
        outcomes = await self._compute_batch(engine, taken)
        if len(taken) > 1 and any(outcome.error is not None for outcome in outcomes):
            outcomes = [(await self._compute_batch(engine, [one]))[0] for one in taken]
        spent_s = self._clock() - started_s
        self.running_since_s = None
        for one, outcome in zip(taken, outcomes, strict=True):
            try:
                self._finish(one, outcome, spent_s)
            except Exception as error:  # the role's top loop: no step may end the worker
                log.exception("a step could not be passed on")
                refuse(self._send, one.memory.owner, one.step, ManyhandsError(repr(error)))
            finally:
                one.done()
        if len(taken) == 1 and outcomes[0].error is None and len(taken[0].step.token_ids) == 1:
            memory = taken[0].memory
            self._took(memory.model, memory.span, taken[0].step.position, spent_s)

    def replay(self, replay: Replay) -> None:
        """Send journal rows again, as ordinary steps that nobody wants an answer to."""
        memory = self._memories.at(replay.session, replay.stage)
        if memory is None or memory.epoch != replay.epoch:
            return  # of an epoch that is over
        if memory.length < replay.last or memory.next_stage is None:
            self._send(memory.owner, Gap(memory.session, memory.epoch, memory.stage, memory.length))
            return
        pieces = chunks(replay.first, replay.last, replay.chunk, memory.source)
        for number, (first, last) in enumerate(pieces):
            step = Step(
                session=replay.session,
                epoch=replay.epoch,
                sequence=replay.sequence + number,
                branch=replay.branch,
                position=first,
                token_ids=tuple(memory.tokens[first:last]),
                stage=replay.stage + 1,
                through=replay.through,
                want=Want(rows="none", token=False),
                tensor=memory.journal.rows(first, last),
            )
            self._send(memory.next_stage.peer, step)

    async def _compute_batch(self, engine: Engine, taken: list[Taken]) -> list[_Outcome]:
        def work() -> list[_Outcome]:
            outputs = engine.step([chunk_of(one.step, one.memory) for one in taken])
            return [_outcome(one, output) for one, output in zip(taken, outputs, strict=True)]

        try:
            cost_s = engine.cost_s([outline(one.step, one.memory) for one in taken])
            return await self._compute.run(work, cost_s)
        except ManyhandsError as error:
            return [_Outcome(error=error) for _ in taken]
        except Exception as error:  # the role's top loop: one bad step must not end the worker
            log.exception("a step failed in the engine")
            return [_Outcome(error=ManyhandsError(repr(error))) for _ in taken]

    def _finish(self, one: Taken, outcome: _Outcome, spent_s: float) -> None:
        memory, error = one.memory, outcome.error
        memory.running_since_s, memory.heard_s = None, self._clock()
        if outcome.rows is not None and memory.keeps_journal and error is None:
            error = self._over_budget(len(outcome.rows.payload))
        if error is not None:
            refuse(self._send, memory.owner, one.step, error)
            return
        try:  # first, since the next stage waits for it and nobody for what we note ourselves
            self._pass_on(one, outcome, (*one.step.compute_s, spent_s))
        except ProtocolError as unsendable:  # too large for a frame, say
            refuse(self._send, memory.owner, one.step, unsendable)
        finally:
            memory.commit(one.step, outcome.rows)

    def _over_budget(self, size_bytes: int) -> ResourceError | None:
        budget_bytes = self._settings.journal_bytes
        if self._memories.journal_bytes_at_most() + size_bytes <= budget_bytes:
            return None
        while (taken_bytes := self._memories.journal_bytes()) + size_bytes > budget_bytes:
            if not self._memories.discard_oldest():
                break
        else:
            return None
        return ResourceError(
            f"journals take {taken_bytes} of {budget_bytes} bytes, {size_bytes} more are needed; "
            "end other answers, ask for fewer tokens, or raise journal_bytes "
            "(Settings(journal_bytes=…))"
        )

    def _pass_on(self, one: Taken, outcome: _Outcome, spent_s: tuple[float, ...]) -> None:
        step, memory, following = one.step, one.memory, one.memory.next_stage
        if outcome.result is not None:
            self._send(memory.owner, replace(outcome.result, compute_s=spent_s))
        elif step.stage >= step.through:  # the end of a replay
            length = step.position + len(step.token_ids)
            self._send(memory.owner, Replayed(memory.session, memory.epoch, memory.stage, length))
        elif following is not None:
            onward = replace(  # side tensors are for the first stage: what is needed is in its rows
                step, stage=step.stage + 1, tensor=outcome.rows, side={}, compute_s=spent_s
            )
            self._send(following.peer, onward)


def _outcome(one: Taken, output: Output) -> _Outcome:
    """On the compute thread: encode for the next stage, or answer the owner."""
    if one.memory.next_stage is None:
        return _Outcome(result=answer(one.step, one.memory, output))
    return _Outcome(rows=codec.encode(one.memory.profile.wire_codec, output.hidden))
