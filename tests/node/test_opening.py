"""Room for a session is set aside when it opens; while there is more, ended ones are kept."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.ids import SessionId
from manyhands.domain.messages import Ready, Refused, SessionClose
from manyhands.domain.settings import Settings
from manyhands.domain.work import SessionOpen
from manyhands.engine.page_table import PAGE_TOKENS
from manyhands.node.stage import history_digest
from manyhands.sim.hash_engine import ENTRY_BYTES, HashEngine, hash_spec
from node_cases import ALONE, OWNER, SPEC, STRANGER, model, opening, step
from worker_bench import on_bench

LONG = hash_spec(2, vocabulary=32, context=512)
PAGE_BYTES = PAGE_TOKENS * ENTRY_BYTES * len(LONG.layers)
ROOM = 8
"""Pages that this peer gives: eight of 64 tokens."""

NAMES = tuple(SessionId(f"{number:032x}") for number in range(9))
TEXT = [number % 31 for number in range(200)]

SERVED = replace(
    model(),
    spec=LONG,
    load=lambda span: HashEngine(LONG, span, kv_bytes=ROOM * PAGE_BYTES, token_s=1e-6),
)


def on_a_small_peer(test, served=SERVED, **settings) -> None:
    on_bench(test, served=served, settings=Settings(beat_every_s=60.0, **settings))


def asks(number: int, pages: int, parent: int | None = None, at: int = 0, **changes) -> SessionOpen:
    return opening(
        route=ALONE,
        session=NAMES[number],
        context_limit=pages * PAGE_TOKENS,
        parent=None if parent is None else NAMES[parent],
        parent_position=at,
        **changes,
    )


async def said(bench, number: int, count: int) -> None:
    """Session `number` has the first `count` tokens of TEXT in its memory."""
    bench.receive(OWNER, step(0, 0, TEXT[:count], ALONE, session=NAMES[number]))
    await bench.settle()


async def ended(bench, number: int) -> None:
    bench.receive(OWNER, SessionClose(NAMES[number]))
    await bench.settle()
    bench.links.take()


def room(bench) -> int:
    """Pages free."""
    engine = bench.holdings.find(opening().model, SPEC.span)
    assert engine.room() % PAGE_BYTES == 0
    return engine.room() // PAGE_BYTES


def test_who_does_not_fit_now_and_who_never_will_are_told_so():
    async def test(bench):
        await bench.opened(asks(0, 5))
        bench.receive(OWNER, asks(1, 4))
        await bench.settle()
        (full,) = bench.links.of(Refused)
        assert full.code == "memory_full"
        assert "are free until other sessions end" in full.message
        bench.links.take()
        await ended(bench, 0)
        await bench.opened(asks(1, 4))

    on_a_small_peer(test)


def test_what_an_ended_session_held_is_kept_and_another_begins_with_it():
    async def test(bench):
        await bench.opened(asks(0, 4))
        await said(bench, 0, 150)
        await ended(bench, 0)
        assert bench.worker.memories.all() == []
        assert room(bench) == ROOM - 3  # what was set aside and not used is free
        bench.receive(OWNER, asks(1, 4, parent=0, at=128))
        await bench.settle()
        assert bench.links.of(Ready) == [Ready(NAMES[1], 1, 0, 128, history_digest(TEXT[:128]))]
        assert room(bench) == ROOM - 5

    on_a_small_peer(test)


def test_what_is_kept_goes_before_anybody_is_refused_the_longest_unused_first():
    async def test(bench):
        for number in range(3):
            await bench.opened(asks(number, 2))
            await said(bench, number, 128)
            await ended(bench, number)
        assert room(bench) == 2
        await bench.opened(asks(3, 5, parent=0, at=64))  # 0 is used: 1 goes
        kept = [memory.session for memory in bench.worker.memories.kept()]
        assert kept == [NAMES[2], NAMES[0]]
        await bench.opened(asks(4, 3))
        assert bench.worker.memories.kept() == []
        assert room(bench) == 0

    on_a_small_peer(test)


def test_a_session_begins_empty_when_its_parent_has_to_go_for_it():
    async def test(bench):
        await bench.opened(asks(0, 8))
        await said(bench, 0, 200)
        await ended(bench, 0)
        bench.receive(OWNER, asks(1, 8, parent=0, at=64))
        await bench.settle()
        assert bench.links.of(Ready) == [Ready(NAMES[1], 1, 0, 0, history_digest([]))]
        assert bench.worker.memories.kept() == []
        assert room(bench) == 0

    on_a_small_peer(test)


def test_nothing_is_kept_longer_than_it_may_be():
    async def test(bench):
        await bench.opened(asks(0, 4))
        await said(bench, 0, 150)
        await ended(bench, 0)
        await bench.settle(100.0)
        assert bench.worker.memories.kept() != []
        await bench.settle(130.0)
        assert bench.worker.memories.kept() == []
        assert room(bench) == ROOM

    on_a_small_peer(test, keep_s=120.0)


def test_nothing_is_kept_where_the_settings_say_so_or_less_than_a_page_was_said():
    async def test(bench):
        for count in (150, 63):
            await bench.opened(asks(0, 4))
            await said(bench, 0, count)
            await ended(bench, 0)
            assert (len(bench.worker.memories.kept()), room(bench)) == (0, ROOM)

    on_a_small_peer(test, keep_s=0.0)


def test_nothing_is_kept_of_a_model_that_keeps_no_memory():
    async def test(bench):
        await bench.opened(asks(0, 4))
        await said(bench, 0, 150)
        await ended(bench, 0)
        assert bench.worker.memories.kept() == []

    encoder = replace(SERVED, spec=hash_spec(2, vocabulary=32, context=512, causal=False))
    on_a_small_peer(test, encoder, keep_s=120.0)


def test_nothing_is_kept_of_a_model_whose_prompts_are_read_whole():
    async def test(bench):
        await bench.opened(asks(0, 4, prompt_length=150))
        await said(bench, 0, 150)
        await ended(bench, 0)
        assert (bench.worker.memories.kept(), room(bench)) == ([], ROOM)

    reader = replace(SERVED, spec=replace(LONG, source=256))
    on_a_small_peer(test, reader, keep_s=120.0)


def test_what_is_kept_of_one_owner_is_no_other_s_beginning():
    async def test(bench):
        await bench.opened(asks(0, 4))
        await said(bench, 0, 150)
        await ended(bench, 0)
        bench.receive(STRANGER, asks(1, 4, parent=0, at=128, owner=STRANGER))
        await bench.settle()
        assert bench.links.of(Ready) == [Ready(NAMES[1], 1, 0, 0, history_digest([]))]

    on_a_small_peer(test)


def test_a_name_that_is_kept_may_be_opened_again():
    async def test(bench):
        await bench.opened(asks(0, 4))
        await said(bench, 0, 150)
        await ended(bench, 0)
        await bench.opened(asks(0, 4))
        assert (len(bench.worker.memories.kept()), room(bench)) == (0, ROOM - 4)

    on_a_small_peer(test)


def test_journals_of_ended_sessions_go_before_a_live_one_is_refused():
    long = replace(LONG, context=4096)
    rows = [1] * 3000

    async def test(bench):
        for name in NAMES[:2]:
            await bench.opened(opening(session=name, context_limit=4096))
            bench.receive(OWNER, step(0, 0, rows, session=name))
            await bench.settle()
            assert bench.links.of(Refused) == []
            if name == NAMES[0]:
                await ended(bench, 0)
                assert len(bench.worker.memories.kept()) == 1
        assert bench.worker.memories.kept() == []

    on_bench(
        test,
        served=replace(SERVED, spec=long, load=lambda x: HashEngine(long, x, token_s=1e-6)),
        settings=Settings(beat_every_s=60.0, journal_bytes=2**16),
    )
