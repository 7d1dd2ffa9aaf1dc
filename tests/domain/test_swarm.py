"""A swarm is only ever replaced: what events do to it, in whatever order they come."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.device import Link
from manyhands.domain.swarm import (
    LinkBroken,
    LinkTo,
    PeerGone,
    RecordSeen,
    Swarm,
    apply,
)
from small_swarms import peer_id, record

numbers = st.integers(1, 4)
links = st.builds(
    Link, numbers.map(peer_id), numbers.map(peer_id), st.just(0.01), st.sampled_from([1e6, 2e6])
)
records = st.builds(
    lambda number, sequence: replace(
        record(number),
        sequence=sequence,
        links=(LinkTo(peer_id(sequence % 4 + 1), 0.01, sequence * 1e6),),
    ),
    numbers,
    st.integers(1, 5),
)
events = st.one_of(
    records.map(RecordSeen),
    numbers.map(peer_id).map(PeerGone),
    st.builds(LinkBroken, numbers.map(peer_id), numbers.map(peer_id)),
)


def after(happened, start=None):
    swarm = start or Swarm()
    for event in happened:
        swarm = apply(swarm, event)
    return swarm


@given(st.lists(records, max_size=8), st.randoms(use_true_random=False))
def test_the_order_in_which_records_arrive_does_not_matter(seen, chance):
    shuffled = list(seen)
    chance.shuffle(shuffled)
    assert after(map(RecordSeen, seen)).peers == after(map(RecordSeen, shuffled)).peers


@given(st.lists(records, min_size=1, max_size=8))
def test_of_each_peer_the_newest_record_stands(seen):
    found = after(map(RecordSeen, seen))
    newest = {r.peer: max(s.sequence for s in seen if s.peer == r.peer) for r in seen}
    assert {peer: r.sequence for peer, r in found.peers.items()} == newest
    assert set(found.links.values()) == {
        Link(peer, link.target, link.latency_s, link.rate_bytes_per_s)
        for peer, told in found.peers.items()
        for link in told.links
    }


@given(st.lists(events, max_size=8), records)
def test_an_older_or_equal_record_changes_nothing_and_gives_the_same_object(happened, late):
    newer = apply(after(happened), RecordSeen(replace(late, sequence=9)))
    assert apply(newer, RecordSeen(late)) is newer
    assert apply(newer, RecordSeen(replace(late, sequence=9, queue_s=5.0))) is newer


@given(st.lists(events, max_size=8), events)
def test_apply_never_changes_the_swarm_it_was_given(happened, event):
    swarm = after(happened)
    before = (swarm.version, dict(swarm.peers), dict(swarm.links), swarm.broken)
    changed = apply(swarm, event)
    assert (swarm.version, dict(swarm.peers), dict(swarm.links), swarm.broken) == before
    assert changed.version == swarm.version + (changed is not swarm)


@given(st.lists(events, max_size=10), numbers.map(peer_id))
def test_a_peer_that_is_gone_leaves_no_trace(happened, peer):
    known = apply(after(happened), RecordSeen(replace(record(1), peer=peer, sequence=9)))
    left = apply(known, PeerGone(peer))
    assert peer not in left.peers
    assert all(peer not in ends for ends in [*left.links, *left.broken])
    assert apply(left, PeerGone(peer)) is left


@given(st.lists(events, max_size=8), links)
def test_a_broken_link_is_whole_again_once_it_is_measured(happened, link):
    ends = (link.source, link.target)
    broken = apply(after(happened), LinkBroken(*ends))
    assert ends in broken.broken
    assert apply(broken, LinkBroken(*ends)) is broken
    told = replace(
        record(1),
        peer=link.source,
        sequence=9,
        links=(LinkTo(link.target, link.latency_s, link.rate_bytes_per_s),),
    )
    whole = apply(broken, RecordSeen(told))
    assert (ends in whole.broken) == (broken.links.get(ends) == link)
    assert whole.links[ends] == link
    silent = apply(whole, RecordSeen(replace(told, sequence=10, links=())))
    assert ends not in silent.links
