"""Nobody who waits is left waiting: closing, forgetting, forking, breaking, leaving the program."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

import manyhands as mh
import tiny
from manyhands.background import Background
from manyhands.errors import ManyhandsError, UserError
from manyhands.node.local import LocalSwarm
from node_cases import DEVICE
from node_cases import model as small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make("llama", tmp_path_factory.mktemp("llama"))


def load(folder, peers: int = 3) -> mh.Model:
    return mh.load(folder, peers=peers, engine="numpy")


def run(script: str, folder, **more) -> subprocess.CompletedProcess:
    """A program of its own; it must end by itself, and say nothing on stderr."""
    head = f"import manyhands as mh, sys; F = {str(folder)!r}\n"
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", head + script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **more,
    )


def threads() -> int:
    return sum(
        thread.name in ("manyhands", "compute", "loading") for thread in threading.enumerate()
    )


def test_closing_while_another_thread_listens_gives_it_an_error(folder) -> None:
    model, ends = load(folder), []

    def listen() -> None:
        try:
            model.generate("Once", 490)
        except ManyhandsError as error:
            ends.append(error)

    listener = threading.Thread(target=listen)
    listener.start()
    time.sleep(0.1)
    model.close()
    listener.join(30)
    assert not listener.is_alive()
    assert [type(end) for end in ends] == [UserError]
    assert "closed" in str(ends[0])


def test_a_forgotten_model_ends_and_frees_its_threads(folder) -> None:
    gc.collect()
    before = threads()
    for _ in range(3):
        model = load(folder)
        model.generate("Once", 3)
    del model
    gc.collect()
    deadline = time.monotonic() + 20
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threads() <= before


def test_a_killed_peer_frees_its_threads(folder) -> None:
    gc.collect()
    before = threads()
    with load(folder) as model:
        assert threads() == before + 7
        model.kill(1)
        deadline = time.monotonic() + 20
        while threads() > before + 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert threads() == before + 5
        assert len(model.peers) == 2


def test_a_stream_that_was_left_can_be_left_again_and_the_model_goes_on(folder) -> None:
    with load(folder) as model:
        stream = model.stream("Once", 50)
        assert next(iter(stream))
        stream.close()
        stream.close()
        assert model.generate("Once", 3)
    stream.close()


def test_an_error_of_a_peer_is_a_lost_peer(folder) -> None:
    with load(folder) as model:
        expected = model.generate_ids([1, 2, 3], 30)
        node = model._swarm.nodes[1]

        async def break_it() -> None:
            async def fail() -> None:
                raise RuntimeError("a bug")

            node.peers._spawn(fail())

        spoken = []
        for token in model.stream_ids([1, 2, 3], 30):
            spoken.append(token)
            if len(spoken) == 10:
                model._loop.ask(break_it()).result()
        assert spoken == expected
        assert len(model.peers) == 2


def test_without_its_owner_a_swarm_says_that_it_ended(folder) -> None:
    with load(folder) as model:

        async def break_it() -> None:
            async def fail() -> None:
                raise RuntimeError("a bug")

            model._swarm.nodes[0].peers._spawn(fail())

        model._loop.ask(break_it()).result()
        with pytest.raises(ManyhandsError, match=r"a bug|closed"):
            model.generate("Once", 490)


def test_a_wrong_number_of_peers_is_refused_at_once(folder) -> None:
    for peers in ("3", 2.0, True, None, 0, -1):
        with pytest.raises(UserError, match="peers"):
            mh.load(folder, peers=peers, engine="numpy")


def test_a_program_that_closes_nothing_ends(folder) -> None:
    done = run("m = mh.load(F, peers=3, engine='numpy'); print(len(m.generate('Once', 5)))", folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_ends_whose_models_are_closed_while_it_shuts_down(folder) -> None:
    script = """
class Keeper:
    def __init__(self): self.model = mh.load(F, peers=3, engine='numpy')
    def __del__(self): self.model.close()
keeper = Keeper()
def words():
    with mh.load(F, peers=3, engine='numpy') as model:
        yield from model.stream('Once', 50)
unfinished = words()
print(len(next(unfinished)) >= 0)
"""
    done = run(script, folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_program_with_a_failing_line_ends_with_its_own_error(folder) -> None:
    done = run("m = mh.load(F, peers=3, engine='numpy'); m.generate('Once', 5); 1 / 0", folder)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Task was destroyed" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals to one process")
def test_an_interrupt_ends_an_answer_cleanly(folder) -> None:
    script = f"""
import os, signal, threading
with mh.load(F, peers=3, engine='numpy') as m:
    for number, piece in enumerate(m.stream('Once', 490)):
        if number == 5:
            os.kill(os.getpid(), {int(signal.SIGINT)})
"""
    done = run(script, folder)
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    assert "never awaited" not in done.stderr
    assert "already running" not in done.stderr
    assert "Task was destroyed" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals to one process")
def test_an_interrupt_while_a_span_is_loaded_ends_the_program_at_once(folder) -> None:
    script = f"""
import os, signal, time
from manyhands.engine import numpy_blocks
def load_for_ever(*arguments, **more):
    os.kill(os.getpid(), {int(signal.SIGINT)})
    time.sleep(3600)
numpy_blocks.load = load_for_ever
mh.load(F, peers=3, engine='numpy')
"""
    done = run(script, folder)  # which has a time limit
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    for trouble in ("never awaited", "already running", "Task was destroyed"):
        assert trouble not in done.stderr


def test_an_error_while_a_span_is_loaded_ends_the_load_at_once() -> None:
    is_loading, may_end, swarms = threading.Event(), threading.Event(), []

    def load_for_ever(span):
        is_loading.set()
        may_end.wait(50)
        return small_model().load(span)

    def make() -> LocalSwarm:
        device = replace(DEVICE, memory_bytes=1 << 30)
        model = replace(small_model(), load=load_for_ever)
        swarms.append(LocalSwarm(model, 3, device, mh.Settings()))
        return swarms[0]

    background = Background()

    def break_it() -> None:
        async def fail() -> None:
            raise UserError("a bug")

        async def spawn() -> None:
            swarms[0].owner.peers._spawn(fail())

        is_loading.wait(50)
        background.ask(spawn()).result()

    breaker = threading.Thread(target=break_it)
    breaker.start()
    try:
        with pytest.raises(UserError, match="a bug"):
            background.start(make)
        assert not may_end.is_set()
        with pytest.raises(UserError):
            background.check_open()
    finally:
        may_end.set()
        breaker.join(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_may_close_and_is_told_to_load_anew(folder) -> None:
    script = """
import os
m = mh.load(F, peers=2, engine='numpy')
child = os.fork()
if child == 0:
    try:
        m.generate('Once', 2)
    except mh.ManyhandsError as error:
        sys.stdout.write(str(error) + '\\n')
    m.close()
    sys.stdout.flush()
    os._exit(0)
print(os.waitpid(child, 0)[1], len(m.generate_ids([1], 2)))
"""
    done = run(script, folder)
    assert done.returncode == 0
    assert "forked" in done.stdout
    assert "0 2" in done.stdout
