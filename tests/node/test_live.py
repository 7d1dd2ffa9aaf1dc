"""A peer on real sockets and threads: it renews its membership in time, and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import tempfile
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding, PeerRecord, Swarm
from manyhands.errors import DeadlinePassed, PeerLost, UserError
from manyhands.net.tcp import read_address
from manyhands.node.live import (
    RENEW_AGAIN_S,
    SOONEST_S,
    Listening,
    LivePeer,
    is_covered,
    renewal_due_s,
    until_covered,
    wall_clock,
)
from manyhands.trust.certificate import check
from node_cases import DEVICE, model
from tls_cases import SWARM, member, reckless
from transport_conformance import KEYS

ANNAS, BENS, CLEOS = KEYS
SETTINGS = Settings(silent_after_s=20.0, record_every_s=0.1, dial_deadline_s=20.0)
MODEL = model()


def peer(keys=ANNAS, life_s=3600.0, listening=None, stored=True) -> LivePeer:
    membership = member(keys, since_s=wall_clock(), life_s=life_s)
    models = (MODEL,) if stored else ()
    return LivePeer(membership, models, DEVICE, SETTINGS, listening or Listening())


@contextlib.asynccontextmanager
async def running(*peers: LivePeer, renewal=None):
    async with asyncio.TaskGroup() as tasks:
        roles = [tasks.create_task(one.run(renewal)) for one in peers]
        for one in peers:
            await one.node.started()
        try:
            yield
        finally:
            for role in roles:
                role.cancel()


async def shown_by(address: str, folder) -> bytes:
    """The certificate that answers at an address."""
    host, port = read_address(address)
    context = reckless(folder, CLEOS, member(CLEOS).certificate_pem)
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
    secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
    der = secured.getpeercert(binary_form=True)
    writer.transport.abort()
    return der


async def heard_of(one: LivePeer, other: LivePeer, sequence: int) -> None:
    """Return once `one` has a record of `other` that is newer than `sequence`."""
    known = one.node.directory
    while True:
        record = known.swarm.peers.get(other.node.peer)
        if record is not None and record.sequence > sequence:
            return
        await known.changed()


def threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name in ("compute", "loading")}


async def test_two_peers_meet_share_a_model_and_know_when_it_is_whole():
    anna, ben = peer(), peer(BENS)
    async with running(anna, ben):
        ben.node.directory.join(anna.node.peer, anna.address)
        await anna.node.hold(MODEL, Span(0, 2))
        assert not is_covered(anna.node.directory.swarm, MODEL)
        with pytest.raises(DeadlinePassed, match=r"nobody holds layers \[2, 4\).*another device"):
            await until_covered(anna.node, MODEL, 0.1)
        await ben.node.hold(MODEL, Span(2, 4))
        await until_covered(anna.node, MODEL, 30.0)
        await until_covered(ben.node, MODEL, 30.0)


async def test_a_membership_is_renewed_in_time_though_the_first_try_fails(tmp_path, caplog):
    tries = []

    async def renewal():
        tries.append(1)
        if len(tries) == 1:
            raise PeerLost("nobody opened")
        return member(ANNAS, since_s=wall_clock(), serial=99)

    anna = peer(life_s=4.0)
    async with running(anna, renewal=renewal):
        before = await shown_by(anna.address, tmp_path)
        assert before == anna.membership.certificate_der
        while anna.membership.certificate_der == before:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.01)
        after = await shown_by(anna.address, tmp_path)
        assert after == anna.membership.certificate_der
        assert check(after, SWARM.swarm, wall_clock() + 3000) == ANNAS.peer
    assert "could not be renewed: nobody opened" in caplog.text


@pytest.mark.slow
async def test_peers_outlive_their_first_certificates_and_meet_again(caplog):
    caplog.set_level(logging.INFO)
    anna, ben = peer(life_s=4.0), peer(BENS, life_s=4.0)

    async def renewal(keys):
        return member(keys, since_s=wall_clock(), serial=99)

    async with asyncio.TaskGroup() as tasks:
        roles = [
            tasks.create_task(anna.run(lambda: renewal(ANNAS))),
            tasks.create_task(ben.run(lambda: renewal(BENS))),
        ]
        await anna.node.started()
        await ben.node.started()
        ben.node.directory.join(anna.node.peer, anna.address)
        async with asyncio.timeout(60):
            await heard_of(anna, ben, 0)
            while "showed has ended" not in caplog.text:  # noqa: ASYNC110 (nothing tells)
                await asyncio.sleep(0.05)
            # said a second later, so over a new connection
            later = anna.node.directory.swarm.peers[anna.node.peer].sequence + 1000
            await heard_of(anna, ben, later)
            await heard_of(ben, anna, later)
        for role in roles:
            role.cancel()


async def test_a_renewal_with_nowhere_for_temporary_files_is_tried_again(
    tmp_path, caplog, monkeypatch
):
    tries = []

    async def renewal():
        tries.append(1)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("gone" * (len(tries) == 1))))
        return member(ANNAS, since_s=wall_clock(), serial=99)

    anna = peer(life_s=4.0)
    async with running(anna, renewal=renewal):
        before = anna.membership.certificate_der
        while anna.membership.certificate_der == before:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.01)
        assert await shown_by(anna.address, tmp_path) == anna.membership.certificate_der
    assert len(tries) == 2
    assert "could not be renewed: the certificate cannot be shown" in caplog.text


@given(st.floats(-1e6, 1e9))
def test_after_a_failure_it_is_tried_again_soon_and_before_the_end(left_s):
    first_s = renewal_due_s(left_s, has_failed=False)
    again_s = renewal_due_s(left_s, has_failed=True)
    assert first_s == max(left_s / 2, SOONEST_S)
    assert SOONEST_S <= again_s <= RENEW_AGAIN_S
    assert again_s <= max(left_s / 4, SOONEST_S)


async def test_a_port_that_is_taken_ends_it_and_its_threads():
    before = threads()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        anna = peer(listening=Listening(port=taken.getsockname()[1]))
        with pytest.raises(ExceptionGroup) as told:
            await anna.run()
    assert told.group_contains(UserError, match="is taken")
    assert threads() <= before


async def test_its_threads_have_ended_when_it_has_though_it_is_cancelled():
    before = threads()
    async with running(peer()):
        assert len(threads() - before) == 2
    assert threads() <= before


def test_a_host_that_others_cannot_dial_is_refused_before_any_thread_is_started():
    before = threads()

    async def main():
        with pytest.raises(UserError, match="public_host"):
            peer(listening=Listening(host="0.0.0.0"))

    asyncio.run(main())
    assert threads() == before


async def test_leaving_says_farewell_so_that_the_others_know_at_once(caplog):
    caplog.set_level(logging.INFO)
    anna, ben = peer(), peer(BENS)
    async with running(anna):
        async with running(ben):
            ben.node.directory.join(anna.node.peer, anna.address)
            while ben.node.peer not in anna.node.directory.swarm.peers:
                await anna.node.directory.changed()
        while ben.node.peer in anna.node.directory.swarm.peers:
            await anna.node.directory.changed()


async def test_others_are_told_the_public_port():
    anna = peer(listening=Listening(public_port=4711))
    async with running(anna):
        assert anna.address == "tcp:127.0.0.1:4711"


async def test_others_are_told_the_public_name():
    anna = peer(listening=Listening(public_host="anna.local"))
    assert anna.address == ""
    async with running(anna):
        assert anna.address.startswith("tcp:anna.local:")


def test_layers_that_no_model_has_are_not_counted_one_by_one():
    def holding(*spans: Span) -> Swarm:
        held = tuple(Holding(MODEL.id, span, "ready") for span in spans)
        record = PeerRecord(ANNAS.peer, 1, 1e9, "", DEVICE, holdings=held)
        return Swarm(peers={ANNAS.peer: record})

    assert is_covered(holding(Span(0, 2**53 - 1)), MODEL)
    assert not is_covered(holding(Span(1, 2**53 - 1)), MODEL)
