"""Streams that are closed, shared, cancelled, or all that is left of their model."""

import asyncio
import contextlib
import threading

import pytest

import manyhands as mh
import tiny
from manyhands.client import Stream
from manyhands.errors import UserError

PROMPT = [7, 1, 300, 42, 42, 9, 120, 11, 256, 3, 77]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def llama(folder):
    with mh.load(folder, peers=3, engine="numpy") as model:
        yield model


def stream_of(model: mh.Model, pieces) -> Stream:
    """A stream of other pieces than an answer's."""
    return Stream(model, model._loop, model.stream_ids([1]).answer, pieces)


async def three_and_then_nothing_ever():
    for piece in range(3):
        yield piece
    await asyncio.Event().wait()


def read_in_a_thread(stream: Stream, count: int) -> tuple[threading.Thread, list, threading.Event]:
    """What a reader got (and what it raised), and an event that is set at `count` pieces."""
    got, has_count = [], threading.Event()

    def read() -> None:
        try:
            for piece in stream:
                got.append(piece)
                if len(got) >= count:
                    has_count.set()
        except BaseException as error:  # noqa: BLE001 (bare cancellations are none of Exception)
            got.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return reader, got, has_count


def test_closing_a_stream_from_another_thread_ends_its_readers_cleanly(llama) -> None:
    stream = stream_of(llama, three_and_then_nothing_ever())
    reader, got, has_three = read_in_a_thread(stream, 3)
    assert has_three.wait(30)
    second, nothing, _ = read_in_a_thread(stream, 1)
    stream.close()
    reader.join(30)
    second.join(30)
    assert not reader.is_alive()
    assert not second.is_alive()
    assert (got, nothing) == ([0, 1, 2], [])
    assert list(stream) == []


def test_closing_an_answer_while_it_is_spoken_ends_its_reader_cleanly(llama) -> None:
    for count in (1, 2, 5):
        stream = llama.stream_ids(PROMPT, 480, temperature=1.0, seed=count)
        reader, got, has_some = read_in_a_thread(stream, count)
        assert has_some.wait(30)
        stream.close()
        reader.join(30)
        assert not reader.is_alive()
        assert all(isinstance(token, int) for token in got), got
    assert len(llama.generate_ids(PROMPT, 3)) == 3


def test_closing_a_stream_ends_async_readers_cleanly_but_their_own_cancellation_passes(
    llama,
) -> None:
    async def one(*, is_cancelled: bool) -> None:
        stream, got, has_three = (
            stream_of(llama, three_and_then_nothing_ever()),
            [],
            asyncio.Event(),
        )

        async def read() -> str:
            async for piece in stream:
                got.append(piece)
                if len(got) == 3:
                    has_three.set()
            return "ended"

        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(read())
            await has_three.wait()
            if is_cancelled:
                reader.cancel()
            else:
                await asyncio.to_thread(stream.close)
        assert reader.cancelled() == is_cancelled
        assert is_cancelled or reader.result() == "ended"
        assert got == [0, 1, 2]

    asyncio.run(one(is_cancelled=False))
    asyncio.run(one(is_cancelled=True))


def test_two_readers_of_one_stream_take_turns_and_miss_nothing(llama) -> None:
    async def many():
        for piece in range(300):
            await asyncio.sleep(0)
            yield piece

    stream = stream_of(llama, many())
    readers = [read_in_a_thread(stream, 1) for _ in range(2)]
    for reader, _, _ in readers:
        reader.join(30)
        assert not reader.is_alive()
    (_, one, _), (_, other, _) = readers
    assert sorted(one + other) == list(range(300))
    assert one == sorted(one)


def test_a_stream_keeps_its_model_until_it_is_read(folder) -> None:
    with mh.load(folder, engine="numpy") as model:
        expected = model.generate("the cat", 12)
    assert "".join(mh.load(folder, engine="numpy").stream("the cat", 12)) == expected

    async def listen() -> str:
        return "".join(
            [piece async for piece in mh.load(folder, engine="numpy").stream("the cat", 12)]
        )

    assert asyncio.run(listen()) == expected


def test_a_stream_that_is_read_or_closed_keeps_its_model_no_more(folder) -> None:
    model = mh.load(folder, engine="numpy")
    read, left, loop = model.stream("the cat", 5), model.stream("the cat", 50), model._loop
    del model
    assert "".join(read)
    loop.check_open()
    with contextlib.closing(left):
        assert next(iter(left))
    with pytest.raises(UserError, match="closed"):
        loop.check_open()


def test_closing_a_stream_that_alone_keeps_its_model_ends_its_reader_cleanly(folder) -> None:
    for _ in range(5):
        stream = stream_of(mh.load(folder, engine="numpy"), three_and_then_nothing_ever())
        reader, got, has_three = read_in_a_thread(stream, 3)
        assert has_three.wait(30)
        stream.close()
        reader.join(30)
        assert not reader.is_alive()
        assert got == [0, 1, 2]
