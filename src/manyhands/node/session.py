"""A session at its owner: run tokens round the ring, and go on whatever is lost meanwhile.

Of a model that keeps no memory each run is a whole sequence of its own, in one step from position
0: after a loss there is nothing to replay, the step is sent again. Knows nothing of text, sampling
or how a route is found.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from manyhands.domain.ids import PeerId, short
from manyhands.domain.messages import Message, SessionClose
from manyhands.domain.settings import Settings
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Result, Want
from manyhands.errors import ContextOverflow, NotServed
from manyhands.node.peers import Clock
from manyhands.node.recover import NOTHING, Recovery
from manyhands.node.ring import NO_SIDE, Among, Ring, Terms, View
from manyhands.node.rules import ALL_RULES, Rules
from manyhands.node.setback import Setback
from manyhands.wire.frame import CAPS, Kind


class Session:
    """Use: `await open()`, then `run` as often as wanted, then `close()`; by one task at a time."""

    def __init__(
        self,
        terms: Terms,
        view: View,
        clock: Clock,
        settings: Settings,
        send: Callable[[PeerId, Message], None],
        rules: Rules = ALL_RULES,
        among: Among = lambda swarm: swarm,
    ) -> None:
        self.ring = Ring(terms, view, clock, settings, send, rules, among)
        self.recovery = Recovery(self.ring)
        self._settings = settings
        self._keeps_memory = terms.spec.keeps_memory
        self._moved = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._is_running = False

    @property
    def terms(self) -> Terms:
        """What does not change in this session's life."""
        return self.ring.terms

    @property
    def length(self) -> int:
        """Tokens that every stage holds."""
        return self.ring.confirmed

    @property
    def kernels(self) -> tuple[str, ...]:
        """Kernel sets that took part so far: the label of the answer."""
        return tuple(self.ring.kernels)

    async def open(self, beginning: Sequence[int] = ()) -> None:
        """Find a route and make every stage ready, holding `beginning`.

        Stages take from the session's parent what they hold of it; the rest is run.

        Raises NoStandIn when the model is not covered, ResourceError when nobody has the memory,
        DeadlinePassed when stages do not get ready in time.
        """
        self.ring.tokens[:] = beginning
        self.ring.confirmed = len(beginning)
        await self.recovery.run(None)

    async def computed(self, count: int) -> int:
        """Wait while the first `count` tokens are being computed; how many all stages hold then."""
        while self._is_running and self.ring.confirmed < count:
            self._moved.clear()
            await self._moved.wait()
        return self.ring.confirmed

    async def run(
        self,
        token_ids: Sequence[int],
        want: Want,
        *,
        allowed: TensorFrame | None = None,
        targets: Sequence[int] = (),
        image: TensorFrame | None = None,
        side: Mapping[str, TensorFrame] = NO_SIDE,
    ) -> list[Result]:
        """Append tokens and run them; the results of the steps that were wanted, in order.

        `allowed` is one mask row per wanted row, `targets` the tokens whose log-probability is
        wanted, one a token, `image` the patches of the image that the tokens are, `side` what goes
        to the first stage beside them. Raises ContextOverflow before anything is sent, the errors
        of `open`, and what a stage refused for the user's own fault.
        """
        ring = self.ring
        if not self._keeps_memory:
            self.rewind(0)
        first, last = ring.confirmed, ring.confirmed + len(token_ids)
        if last > ring.terms.context_limit:
            raise ContextOverflow(
                f"{last} tokens are more than the context of {ring.terms.context_limit}; shorten "
                "the prompt or ask for fewer tokens"
            )
        most = self._settings.chunk_tokens
        if allowed is not None and want.rows == "all" and last - first > most:
            raise NotServed(
                f"masks for every row of {last - first} tokens were given; at most chunk_tokens "
                f"({most}) go at once"
            )
        async with self._one_at_a_time:
            await self._leave()
            return await self._run(token_ids, want, allowed, targets, image, side)

    def is_to_leave(self) -> bool:
        """True when nobody speaks, and our peers want to let go of layers we stand on."""
        return not self._one_at_a_time.locked() and self.recovery.is_to_move()

    async def leave(self) -> None:
        """Go where layers stay; a run waits for that."""
        async with self._one_at_a_time:
            await self._leave()

    async def _leave(self) -> None:
        if self.recovery.is_to_move():
            self.ring.resume()
            await self.recovery.move()

    async def _run(
        self,
        token_ids: Sequence[int],
        want: Want,
        allowed: TensorFrame | None,
        targets: Sequence[int],
        image: TensorFrame | None,
        side: Mapping[str, TensorFrame],
    ) -> list[Result]:
        ring, first = self.ring, self.ring.confirmed
        ring.tokens[first:] = token_ids
        ring.resume()
        results: list[Result] = []
        self._is_running = True
        try:
            while True:
                try:
                    await self._feed(first, results, want, allowed, targets, image, side)
                except Setback as setback:
                    await self.recovery.run(setback)
                else:
                    return results
        finally:
            self._is_running = False
            self._moved.set()

    def rewind(self, length: int) -> None:
        """Forget tokens from `length` on (a rejected draft); the next step cuts stages' memory."""
        ring = self.ring
        if length < ring.confirmed:
            ring.confirmed = length
            del ring.tokens[length:]
            ring.branch += 1

    def close(self) -> None:
        """Tell every stage to free the session, those too that it was about to leave."""
        opened = sorted(stage.peer for stage in self.ring.opened)
        for peer in dict.fromkeys((*self.ring.route.peers(), *opened)):
            self.ring.send(peer, SessionClose(self.terms.session))

    def _check(self, result: Result, want: Want, tokens: int) -> None:
        """Raise a Setback unless the last stage answered what it was asked."""
        rows = {"none": 0, "last": 1, "all": tokens}[want.rows]
        if want.pooled:
            rows = 1
        vocabulary = self.terms.spec.vocabulary
        is_whole = len(result.tokens) == (rows if want.token else 0)
        is_known = all(0 <= token < vocabulary for token in result.tokens)
        has_tensor = want.logits or want.hidden or want.pooled
        has_rows = result.tensor is not None and result.tensor.shape[0] == rows
        is_ranked = len(result.top_ids) == len(result.top_logprobs) == (rows if want.top_n else 0)
        is_scored = len(result.chosen_logprob) == (rows if want.token and want.logprob else 0)
        is_said = is_whole and is_known and is_ranked and is_scored
        if not is_said or (has_tensor and rows and not has_rows):
            peer = self.ring.route.stages[-1].peer
            raise Setback(f"peer {short(peer)} answers nonsense", lost=frozenset({peer}))

    def _rows_at_once(self, position: int, want: Want, allowed: TensorFrame | None) -> int:
        """Tokens in one step: no more than hold up others for long, or than one frame answers."""
        ring = self.ring
        if not self._keeps_memory:
            return max(1, len(ring.tokens))
        if position < self.terms.source:
            return self.terms.source - position
        is_masked = allowed is not None and want.rows == "all"  # a mask is not cut into chunks
        left = len(ring.tokens) - position
        size = self._settings.chunk_tokens if is_masked else ring.pace.tokens(position, left)
        if want.logits and want.rows == "all":
            row_bytes = 4 * self.terms.spec.vocabulary
            size = min(size, max(1, CAPS[Kind.RESULT].payload // row_bytes))
        return size

    def _wanted(self, want: Want, after: int, last: int) -> Want:
        """What is wanted of the step that ends at `after`; of what is only read, nothing."""
        is_read = after <= self.terms.source
        return NOTHING if is_read or (want.rows != "all" and after < last) else want

    async def _feed(
        self,
        first: int,
        results: list[Result],
        want: Want,
        allowed: TensorFrame | None,
        targets: Sequence[int],
        image: TensorFrame | None,
        side: Mapping[str, TensorFrame],
    ) -> None:
        """Send what is not confirmed in chunks, a few in flight, and take in the answers."""
        ring = self.ring
        window = self._settings.window_chunks if ring.rules.limit_window else len(ring.tokens)
        in_flight: deque[tuple[int, int]] = deque()
        position, last = ring.confirmed, len(ring.tokens)
        while ring.confirmed < last:
            while position < last and len(in_flight) < window:
                after = min(position + self._rows_at_once(position, want, allowed), last)
                wanted = self._wanted(want, after, last)
                sequence = ring.send_step(
                    position,
                    after,
                    wanted,
                    allowed=allowed if wanted is want else None,
                    targets=tuple(targets[position - first : after - first]),
                    image=image,
                    side=side,
                )
                in_flight.append((sequence, after))
                position = after
            message = await ring.next("result")
            sequence, after = in_flight[0]
            if isinstance(message, Result) and message.sequence == sequence:
                wanted = self._wanted(want, after, last)
                self._check(message, wanted, after - ring.confirmed)
                in_flight.popleft()
                ring.pace.took(after - ring.confirmed, ring.confirmed, message.compute_s)
                ring.confirmed = after
                self._moved.set()
                ring.liveness.progressed()
                self.recovery.progressed()
                if wanted.rows != "none":
                    results.append(message)
