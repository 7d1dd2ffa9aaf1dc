"""`hands join` as real processes of a swarm that is founded in the test: in, at work, and out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import replace

import pytest
from verbs import Verb

import tiny
from founding_house import SETTINGS, founding, small
from manyhands.cli.join import JoinOptions, open_running
from manyhands.domain.admission import Admission, Contact, RunningModel
from manyhands.domain.ids import ModelId
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.errors import BadSetting, UserError
from manyhands.net.door import Door
from manyhands.net.tls import Contexts
from manyhands.node.founder import Founder
from manyhands.trust.invite import make_invite
from manyhands.trust.signature import KeyPair
from tls_cases import NOW_S, SWARM

pytestmark = pytest.mark.timeout(180)
DEADLINE_S = 90.0
LAYERS = tiny.BLOCKS + 2
INVITE = make_invite(KeyPair.from_seed(b"n" * 32).peer, b"0" * 16).text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make("llama", tmp_path_factory.mktemp("models") / "little")


class Joining:
    """One `hands join` at work."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.events = process, []

    async def event(self, name: str) -> dict:
        """The next event of this name."""
        async with asyncio.timeout(DEADLINE_S):
            while line := await self.process.stdout.readline():
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == name:
                    return self.events[-1]
        raise AssertionError(f"ended with {self.events}: {await self.process.stderr.read()}")

    async def ended(self) -> tuple[int, str]:
        """Exit code and complaints; its remaining events are in `events`."""
        async with asyncio.timeout(DEADLINE_S):
            said, complaints = await self.process.communicate()
        self.events += [json.loads(line) for line in said.splitlines()]
        return self.process.returncode, complaints.decode()

    async def told(self, number: int) -> None:
        """Leaves in order when told to."""
        self.process.send_signal(number)
        assert await self.ended() == (0, "")
        assert self.events[-1] == {"event": "left"}


@contextlib.asynccontextmanager
async def joining(home, *words, **environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "manyhands.cli.app", "join", *map(str, words), "--json",
        env={**os.environ, "MANYHANDS_HOME": str(home), **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Joining(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def refused(home, *words, **environment) -> tuple[int, str, str]:
    """Exit code, the error's code and its message; nothing was joined."""
    async with joining(home, *words, **environment) as one:
        code, complaints = await one.ended()
    *_, event = one.events
    assert event["event"] == "error"
    assert complaints.splitlines()[-1] == f"hands: {event['message']}"
    assert "Traceback" not in complaints
    return code, event["code"], event["message"]


async def test_a_device_joins_answers_leaves_and_comes_back_without_an_invite(folder, tmp_path):
    async with founding(tmp_path / "founder", small(folder)) as swarm:
        await swarm.hold(Span(0, 3))
        words = (swarm.door, "--model", folder)
        invite = swarm.founder.invite()
        async with joining(tmp_path / "home", *words, "--invite", invite.text) as one:
            ready = await one.event("ready")
            assert (ready["first"], ready["last"]) == (3, LAYERS)  # what was missing
            assert ready["weight_bytes"] > 0
            answer = swarm.speaker.answer("Many hands", 8)
            async for _ in answer.pieces():
                pass
            assert answer.tokens
            await one.told(signal.SIGINT)
        async with joining(tmp_path / "home", *words) as one:
            again = await one.event("ready")
            assert again["peer"] == ready["peer"]
            # a second process of the same person is another peer, and has to ask for itself
            async with joining(tmp_path / "home", *words) as two:
                shown = (await two.event("asking"))["code"]
                while not swarm.founder.approvals.waiting():
                    await swarm.founder.approvals.changed()
                swarm.founder.approvals.answer(shown, is_welcome=False)
                code, complaints = await two.ended()
                assert code == 4
                assert "whoever runs the swarm said no to this device" in complaints
            environment = {"MANYHANDS_INVITE": swarm.founder.invite().text}
            async with joining(tmp_path / "home", *words, **environment) as two:
                other = await two.event("ready")
                assert other["peer"] != ready["peer"]
                assert len(swarm.node.directory.swarm.peers) == 3
                await two.told(signal.SIGTERM)
            await one.told(signal.SIGTERM)
        async with joining(tmp_path / "home", *words) as one:
            await one.event("ready")
            await swarm.node.peers.close()  # nobody is left to hear the farewell
            await one.told(signal.SIGINT)


async def test_who_is_not_let_in_reads_why(folder, tmp_path):
    settings = replace(SETTINGS, invite_life_s=1.0)
    async with founding(tmp_path / "founder", small(folder), settings) as swarm:
        expired = swarm.founder.invite().text
        await asyncio.sleep(1.1)
        home, words = tmp_path / "home", (swarm.door, "--model", folder, "--invite")
        for invite, code, name, said in (
            (expired, 4, "peer", "this invite has expired; ask for another one"),
            (INVITE, 4, "peer", "not the one this invite is of"),
            ("mh1-nonsense", 2, "user", "mistyped"),
            (expired[:-9], 2, "user", "copy it once more"),
        ):
            told = await refused(home, *words, invite)
            assert told[:2] == (code, name)
            assert said in told[2]


async def test_an_invite_that_another_one_used_lets_nobody_in(folder, tmp_path):
    async with founding(tmp_path / "founder", small(folder)) as swarm:
        invite = swarm.founder.invite().text
        words = (swarm.door, "--model", folder, "--invite", invite)
        async with joining(tmp_path / "one", *words) as one:
            ready = await one.event("ready")
            assert (ready["first"], ready["last"]) == (0, LAYERS)  # all of it
            assert (await refused(tmp_path / "two", *words))[:2] == (4, "peer")
            await one.told(signal.SIGINT)


async def test_a_share_that_does_not_fit_is_refused_before_it_is_loaded(folder, tmp_path):
    async with founding(tmp_path / "founder", small(folder)) as swarm:
        words = (swarm.door, "--model", folder, "--invite", swarm.founder.invite().text)
        home = tmp_path / "home"
        code, name, said = await refused(
            home, *words, "--span", f"0:{LAYERS}", "--max-memory", "1M"
        )
        assert (code, name) == (3, "resource")
        assert "layers 0:" in said
        assert "would fit" in said
        code, name, said = await refused(home, *words, "--max-memory", "1k")
        assert (code, name) == (3, "resource")
        assert "not one layer of little fits" in said
        code, _, said = await refused(home, *words, "--span", "0:99")
        assert code == 2
        assert f"0:{LAYERS}" in said
        async with joining(home, *words, "--max-memory", "1M") as one:  # as much as fits
            ready = await one.event("ready")
            assert 0 < ready["last"] < LAYERS
            await one.told(signal.SIGINT)


async def test_limits_that_cannot_be_kept_are_told_before_anybody_is_asked(tmp_path):
    for words, said in (
        (("--when", "away"), "always or idle"),
        (("--hours", "7-7"), "as 22-07"),
        (("--max-cpu", "150%"), "as 50%"),
        (("--when", "idle", "--idle-from", f"file:{tmp_path / 'no'}"), "cannot be read here"),
    ):
        code, _, message = await refused(tmp_path, "127.0.0.1:9", "--invite", INVITE, *words)
        assert code == 2
        assert said in message


async def test_a_device_whose_user_is_there_joins_and_gives_nothing_yet(folder, tmp_path):
    typed = tmp_path / "typed"
    typed.touch()
    async with founding(tmp_path / "founder", small(folder)) as swarm:
        words = (swarm.door, "--model", folder, "--invite", swarm.founder.invite().text)
        idle = ("--when", "idle", "--idle-from", f"file:{typed}", "--idle-after", "60s")
        limits = ("--max-cpu", "50%", "--max-upload", "5M", "--max-memory", "1G")
        async with joining(tmp_path / "home", *words, *idle, *limits) as one:
            assert (await one.event("paused"))["why"] == "user"
            ready = await one.event("ready")
            record = swarm.node.directory.swarm.peers[ready["peer"]]
            assert record.paused == "user"
            os.utime(typed, (1, 1))
            await one.event("giving")
            await one.told(signal.SIGINT)


async def test_other_weights_are_the_users_error(folder, tmp_path):
    other = tiny.make("llama", tmp_path / "other", seed=1)
    async with founding(tmp_path / "founder", small(folder)) as swarm:
        words = (swarm.door, "--invite", swarm.founder.invite().text)
        code, name, said = await refused(tmp_path / "home", *words, "--model", other)
        assert (code, name) == (2, "user")
        assert "other weights or another config" in said


async def test_another_version_is_told_what_to_do(tmp_path):
    founder = Founder(SWARM, KeyPair.from_seed(b"f" * 32), Settings(), lambda: NOW_S, lambda: 9)

    def decide(knock, member):
        return founder.decide(replace(knock, protocol=2), member)

    door = Door(Contexts(founder.membership()), "127.0.0.1", 0, decide, 60.0)
    port = await door.open()
    invite = founder.invite().text
    code, name, said = await refused(tmp_path, f"127.0.0.1:{port}", "--invite", invite)
    await door.close()
    assert (code, name) == (4, "version")
    assert "install the same version of manyhands on both sides" in said


async def test_a_founder_that_is_not_there_is_said_and_a_mute_one_can_be_left(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        place = f"127.0.0.1:{mute.getsockname()[1]}"
        async with joining(tmp_path, place, "--invite", INVITE) as one:
            client, _ = await asyncio.to_thread(mute.accept)
            await one.told(signal.SIGINT)
            client.close()
    code, name, said = await refused(tmp_path, place, "--invite", INVITE)
    assert (code, name) == (4, "peer_lost")
    assert f"nobody opened at {place}" in said
    code, name, _ = await refused(tmp_path, "no address", "--invite", INVITE)
    assert (code, name) == (2, "user")


async def test_a_child_ends_when_its_parent_closes_the_pipe(folder, tmp_path):
    async with founding(tmp_path / "founder", small(folder)) as swarm:
        words = (swarm.door, "--model", folder, "--invite", swarm.founder.invite().text)
        async with joining(tmp_path / "home", *words, "--with-parent") as one:
            code, complaints = await one.ended()  # its standard input is empty
        assert (code, complaints) == (0, "")
        assert one.events[-1] == {"event": "left"}


def test_a_swarm_of_an_engine_that_is_not_here_is_said_with_what_to_do(folder, tmp_path):
    def admission(*models):
        return Admission("", "", (), models, 0.0)

    options = JoinOptions("host", model=str(folder))
    running = RunningModel(ModelId("ab" * 32), "little", "abacus", "wood")
    with pytest.raises(BadSetting, match=r"computes with abacus in wood.*--engine numpy"):
        open_running(admission(running), options, Settings())
    with pytest.raises(UserError, match="runs no model yet"):
        open_running(admission(), options, Settings())


@pytest.mark.slow
async def test_a_swarm_whose_peers_cannot_be_reached_is_said(folder, tmp_path):
    async with founding(tmp_path / "founder", small(folder)) as swarm:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nowhere = f"tcp:127.0.0.1:{closed.getsockname()[1]}"
        swarm.founder.contacts = lambda: [Contact(swarm.node.peer, nowhere)]
        words = (swarm.door, "--model", folder, "--invite", swarm.founder.invite().text)
        code, name, said = await refused(tmp_path / "home", *words)
        assert (code, name) == (4, "peer_lost")
        assert f"no peer answers at {nowhere}" in said


@pytest.mark.timeout(180)
def test_it_says_when_nobody_else_is_left(tmp_path):
    ports = ("--http-port", "0", "--peers-port", "0", "--door-port", "0")
    with Verb("serve", *ports, home=tmp_path / "one") as serving:
        ready = serving.event("ready")
        words = ("join", ready["door"])
        with Verb(*words, home=tmp_path / "two", MANYHANDS_INVITE=ready["invite"]) as joined:
            joined.event("ready")
            serving.process.kill()
            assert joined.event("company")["peers"] == 0
            assert joined.interrupt() == 0
