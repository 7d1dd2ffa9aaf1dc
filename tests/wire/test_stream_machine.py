"""Two streams over two queues of frames, interleaved in every way hypothesis thinks of."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from manyhands.domain.messages import Ack, Beat, Credit, Hello
from manyhands.domain.work import Result, Step
from manyhands.wire import schema
from manyhands.wire.frame import Frame
from manyhands.wire.stream import Stream
from wire_examples import ANNA, BEN, example

sides = st.integers(0, 1)


class Life(RuleBasedStateMachine):
    """Side 0 is Anna, side 1 is Ben; `links[i]` are the frames on their way from side i."""

    @initialize(windows=st.tuples(st.integers(1, 5), st.integers(1, 5)))
    def open(self, windows):
        self.windows = windows
        hellos = [
            Hello(peer, 1, 1, "steps", window, "test")
            for peer, window in zip((ANNA, BEN), windows, strict=True)
        ]
        self.streams = [Stream(hellos[0], BEN), Stream(hellos[1], ANNA)]
        self.links: list[deque[Frame]] = [deque(), deque()]
        self.sent = [{"step": [], "rest": []} for _ in range(2)]
        self.got = [{"step": [], "rest": []} for _ in range(2)]
        self.unread = [0, 0]  # steps given to the role of side i and not consumed
        self.acks: list[list[int]] = [[], []]
        self.number = 0

    @rule(side=sides, kind=st.sampled_from([Step, Step, Step, Result, Beat]))
    def send(self, side, kind):
        self.number += 1
        message = replace(
            example(kind), **{"finished" if kind is Beat else "sequence": self.number}
        )
        self.streams[side].send(message, 0.0)
        self.sent[side]["step" if kind is Step else "rest"].append(message)

    @rule(side=sides)
    def write(self, side):
        frames = self.streams[side].outgoing(0.0)
        kinds = [type(schema.decode(frame)) for frame in frames]
        assert kinds.count(Ack) <= 1
        assert kinds.count(Credit) <= 1
        steps = [at for at, kind in enumerate(kinds) if kind is Step]
        assert steps == list(range(len(kinds) - len(steps), len(kinds)))
        assert kinds.count(Hello) == (Hello in kinds[:1])
        self.links[side].extend(frames)

    @rule(side=sides)
    def deliver(self, side):
        if not self.links[1 - side]:
            return
        frame = self.links[1 - side].popleft()
        message = schema.decode(frame)
        if isinstance(message, Ack):
            self.acks[side].append(message.count)
        for given in self.streams[side].receive(frame, 0.0):
            is_step = isinstance(given, Step)
            self.unread[side] += is_step
            self.got[side]["step" if is_step else "rest"].append(given)

    @rule(side=sides, share=st.integers(1, 5))
    def consume(self, side, share):
        count = min(share, self.unread[side])
        self.streams[side].consumed(count)
        self.unread[side] -= count

    @invariant()
    def no_more_steps_are_under_way_or_held_than_the_window(self):
        for side in range(2):
            coming = sum(isinstance(schema.decode(f), Step) for f in self.links[1 - side])
            assert coming + self.unread[side] <= self.windows[side]

    @invariant()
    def what_came_is_the_beginning_of_what_was_sent(self):
        for side in range(2):
            for name, got in self.got[side].items():
                assert got == self.sent[1 - side][name][: len(got)]

    def teardown(self):
        if not hasattr(self, "streams"):
            return
        for _ in range(4 * self.number + 10):
            for side in range(2):
                self.write(side)
                while self.links[1 - side]:
                    self.deliver(side)
                self.consume(side, self.unread[side])
        for side in range(2):
            assert self.got[side] == self.sent[1 - side]
            assert self.streams[side].oldest_unacknowledged_s(1.0) is None
            assert self.streams[side].waiting_steps == 0
            assert self.acks[side] == sorted(set(self.acks[side]))
            due = self.sent[side]["step"] + [
                m for m in self.sent[side]["rest"] if isinstance(m, Result)
            ]
            assert (self.acks[side] or [0])[-1] == len(due)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
