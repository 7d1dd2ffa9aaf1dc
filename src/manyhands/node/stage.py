"""One session's state at one stage, and the rules by which a step is taken, dropped or refused.

The journal keeps the encoded rows this stage sent, by position, so that they can be sent again.
Knows nothing of links, clocks or engines: the worker asks `judge`, computes, then calls `commit`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum

import numpy as np

from manyhands.domain.ids import ModelId, PeerId, SessionId
from manyhands.domain.messages import Rewire
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Route, Sampling, SessionOpen, Stage, Step
from manyhands.node.rules import ALL_RULES, Rules

PAGE_ROWS = 64
"""Rows in one page of a journal."""


class Ruling(Enum):
    """What to do with a step: run it, forget it (old), or tell the owner what is missing."""

    TAKE = "take"
    DROP = "drop"
    GAP = "gap"


def history_digest(token_ids: Sequence[int]) -> str:
    """Names a text. A stage's memory is a function of it: equal digests mean equal memory."""
    return hashlib.sha256(np.asarray(token_ids, dtype="<i8").tobytes()).hexdigest()


class Journal:
    """Encoded rows by position, in pages that forks share. A codec gives all rows as many bytes.

    A full page is never written to again, so whoever has it may keep it; a page begun is nobody
    else's.
    """

    def __init__(self) -> None:
        self.pages: list[bytearray] = []
        self._codec = ""
        self._width = 0
        self._row_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes kept, what is shared with others included."""
        return sum(len(page) for page in self.pages[-1:]) + self._page_bytes * max(
            0, len(self.pages) - 1
        )

    @property
    def _page_bytes(self) -> int:
        return PAGE_ROWS * self._row_bytes

    def append(self, frame: TensorFrame) -> None:
        """Keep the rows of one more chunk."""
        if not frame.shape[0]:
            return
        self._codec, self._width, self._row_bytes = frame.codec, frame.shape[1], frame.row_bytes
        left = memoryview(frame.payload)
        while left:
            if not self.pages or len(self.pages[-1]) == self._page_bytes:
                self.pages.append(bytearray())
            free = self._page_bytes - len(self.pages[-1])
            self.pages[-1] += left[:free]
            left = left[free:]

    def cut(self, position: int) -> None:
        """Forget rows from `position` on."""
        whole, rest = divmod(position, PAGE_ROWS)
        begun = self.pages[whole : whole + 1] if rest else []
        self.pages[whole:] = [page[: rest * self._row_bytes] for page in begun]

    def rows(self, first: int, last: int) -> TensorFrame:
        """Rows [first, last) as they were sent."""
        size = self._row_bytes
        pages = self.pages[first // PAGE_ROWS : -(-last // PAGE_ROWS)]
        skipped = first // PAGE_ROWS * PAGE_ROWS
        payload = b"".join(pages)[(first - skipped) * size : (last - skipped) * size]
        return TensorFrame(self._codec, (last - first, self._width), payload)

    def copy(self, position: int) -> Journal:
        """A journal with the first `position` rows of this one; whole pages are shared."""
        twin = Journal()
        twin._codec, twin._width, twin._row_bytes = self._codec, self._width, self._row_bytes
        twin.pages = list(self.pages)
        twin.cut(position)
        return twin


class StageMemory:
    """What a stage keeps of a session beside the engine's keys and values.

    `tokens` are those whose rows are in the engine's memory: its length is the committed length.
    Without a journal, as of a model that keeps no memory, nothing is ever replayed from here.
    `source` of them, the first, are what an encoder-decoder reads.
    """

    def __init__(
        self,
        opening: SessionOpen,
        now_s: float,
        rules: Rules = ALL_RULES,
        keeps_journal: bool = True,
        reads_source: bool = False,
    ) -> None:
        self.session: SessionId = opening.session
        self.owner: PeerId = opening.owner
        self.model: ModelId = opening.model
        self.profile: Profile = opening.profile
        self.sampling: Sampling = opening.sampling
        self.prompt_length = opening.prompt_length
        self.source = opening.prompt_length if reads_source else 0
        self.context_limit = opening.context_limit
        self.lease_s = opening.lease_s
        self.span: Span = opening.route.stages[opening.stage].span
        self.route: Route = opening.route
        self.stage = opening.stage
        self.epoch = opening.epoch
        self.tokens: list[int] = []
        self.journal = Journal()
        self.keeps_journal = keeps_journal
        self.finished = 0
        self.running_since_s: float | None = None
        self.heard_s = now_s
        self._sequence: int | None = None
        self._branch = 0
        self._rules = rules

    @property
    def name(self) -> SessionId:
        """What the engine calls this memory: one peer may hold two spans of one session."""
        return SessionId(f"{self.session}{self.span}")

    @property
    def length(self) -> int:
        """Tokens committed."""
        return len(self.tokens)

    @property
    def stage_before(self) -> PeerId:
        """Who sends us steps: the stage before, or the owner."""
        return self.route.stages[self.stage - 1].peer if self.stage else self.owner

    @property
    def next_stage(self) -> Stage | None:
        """Where outputs go; None at the last stage."""
        after = self.stage + 1
        return self.route.stages[after] if after < len(self.route) else None

    def history(self) -> str:
        """Digest of the tokens in memory."""
        return history_digest(self.tokens)

    def rewire(self, rewiring: Rewire | SessionOpen) -> bool:
        """Take up a newer epoch, cut at its position; False when it is not newer."""
        if rewiring.epoch <= self.epoch and self._rules.drop_old_epochs:
            return False
        self.epoch, self.route, self.stage = rewiring.epoch, rewiring.route, rewiring.stage
        self._sequence, self._branch = None, 0
        self.cut(rewiring.position)
        return True

    def judge(self, step: Step) -> Ruling:
        """Apply the rules of order to a step; changes nothing.

        The first step of an epoch sets the count of sequences; from then on each grows by one.
        """
        rules = self._rules
        if step.epoch != self.epoch and rules.drop_old_epochs:
            return Ruling.DROP
        if self._sequence is not None:
            if step.sequence <= self._sequence and rules.drop_old_sequences:
                return Ruling.DROP
            if step.sequence > self._sequence + 1 and rules.refuse_gaps:
                return Ruling.GAP
        if step.branch < self._branch and rules.drop_old_branches:
            return Ruling.DROP
        if step.position > self.length and rules.refuse_gaps:
            return Ruling.GAP
        return Ruling.TAKE

    def begin(self, step: Step, now_s: float) -> None:
        """A step is taken: note its order, and cut what it overwrites."""
        self._sequence, self._branch = step.sequence, max(step.branch, self._branch)
        self.running_since_s = now_s
        if self._rules.cut_by_position:
            self.cut(step.position)

    def commit(self, step: Step, sent: TensorFrame | None) -> None:
        """The last layer is done: the step's rows are in memory, `sent` are its outputs."""
        self.tokens[step.position :] = step.token_ids
        if sent is not None and self.keeps_journal:
            self.journal.append(sent)
        self.finished += 1

    def cut(self, position: int) -> None:
        """Forget tokens and journal from `position` on."""
        if position < self.length:
            del self.tokens[position:]
            if self._rules.cut_journal:
                self.journal.cut(position)
