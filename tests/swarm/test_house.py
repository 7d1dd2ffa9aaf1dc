"""A house of several hosts: found, approved, answered; over two networks; without multicast."""

from __future__ import annotations

import json
import re

import pytest
from terminal import Terminal
from verbs import Verb, done

import hosts
from manyhands.sim.shaping import Shape

APART = Shape(0.0005, 125e6)
"""Hosts of a home: a millisecond to and fro, 1 Gbit/s."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hosts.can_be_made(), reason="namespaces need Linux and root"),
]


def serving(host, home):
    return Verb("serve", "--lan", home=home, on=host.words)


def let_in(newcomer, swarm, host, home) -> dict:
    """One person looks at two screens and types one command; what the newcomer says when ready."""
    code = newcomer.event("asking")["code"]
    assert swarm.event("newcomer")["code"] == code
    assert done("approve", code, home=home, on=host.words).returncode == 0
    return newcomer.event("ready")


def _line(screen, number) -> str:
    """What the screen offers under a number."""
    return next(line for line in screen.shown.splitlines() if line.startswith(f"  {number}  "))


def test_three_hosts_become_a_swarm_with_nothing_typed_but_the_approval(tmp_path):
    with (
        hosts.network(3, APART) as ((anna, ben, cleo), _),
        Terminal("run", "--lan", home=tmp_path / "anna", on=anna.words) as screen,
    ):
        screen.until(">>> ")
        with (
            Verb("join", home=tmp_path / "ben", on=ben.words) as bens,
            Verb("join", home=tmp_path / "cleo", on=cleo.words) as cleos,
        ):
            for newcomer in (bens, cleos):
                found = newcomer.event("found")
                assert found["door"] == f"{anna.addresses[0]}:7702"
            codes = {one: one.event("asking")["code"] for one in (bens, cleos)}
            for newcomer, code in codes.items():
                screen.until(f"/approve {code} lets it in")
                screen.type(f"/approve {code}\n")
                assert newcomer.event("ready")["last"] > 0
            screen.type("Once upon a time\n")
            screen.until("a second")
            assert re.search(r"\d{2,} tokens, [\d.]+ a second", screen.shown)
            assert bens.interrupt() == cleos.interrupt() == 0
        # the next time nobody is asked
        with Verb("join", home=tmp_path / "ben", on=ben.words) as again:
            again.event("ready")
            assert "asking" not in {event["event"] for event in again.events}
        screen.type("/quit\n")
        assert screen.end() == 0, screen.shown


def test_a_founder_in_two_networks_is_found_in_both(tmp_path):
    with (
        hosts.hosts(3) as (anna, ben, cleo),
        hosts.joined_by([anna, ben], "10.77.1", APART),
        hosts.joined_by([anna, cleo], "10.77.2", APART),
        serving(anna, tmp_path / "anna") as swarm,
    ):
        swarm.event("coverage")
        for host, name, door in ((ben, "ben", "10.77.1.1"), (cleo, "cleo", "10.77.2.1")):
            with Verb("join", home=tmp_path / name, on=host.words) as newcomer:
                assert newcomer.event("found")["door"] == f"{door}:7702"
                let_in(newcomer, swarm, anna, tmp_path / "anna")
                assert newcomer.interrupt() == 0


def test_without_multicast_it_is_said_why_and_an_address_or_an_invite_serves(tmp_path):
    with hosts.network(2, APART) as ((anna, ben), net), serving(anna, tmp_path / "anna") as swarm:
        net.drop_multicast()
        invite = swarm.event("ready")["invite"]
        lost = done("join", home=tmp_path / "ben", on=ben.words)
        assert lost.returncode == 2
        assert "multicast" in lost.stderr
        assert "hands doctor" in lost.stderr
        with Verb("join", anna.addresses[0], "--invite", invite, home=tmp_path / "ben",
                  on=ben.words) as newcomer:  # fmt: skip
            newcomer.event("ready")
            assert newcomer.interrupt() == 0
        with Verb("join", anna.addresses[0], home=tmp_path / "other", on=ben.words) as newcomer:
            let_in(newcomer, swarm, anna, tmp_path / "anna")
            assert newcomer.interrupt() == 0


def test_two_swarms_in_one_network_are_told_apart(tmp_path):
    with (
        hosts.network(3, APART) as ((anna, ben, cleo), _),
        serving(anna, tmp_path / "anna") as annas,
        serving(ben, tmp_path / "ben") as bens,
    ):
        annas.event("coverage")
        invite = bens.event("ready")["invite"]
        lost = done("join", home=tmp_path / "cleo", on=cleo.words)
        assert lost.returncode == 2
        assert "2 swarms are in this network" in lost.stderr
        assert f"{anna.addresses[0]}:7702" in lost.stderr
        with Verb("join", "--invite", invite, home=tmp_path / "cleo", on=cleo.words) as newcomer:
            assert newcomer.event("found")["door"] == f"{ben.addresses[0]}:7702"
            newcomer.event("ready")
            assert newcomer.interrupt() == 0
        with Terminal("join", home=tmp_path / "third", on=cleo.words) as screen:
            screen.until("which one? [1-2]")
            for number in (1, 2):
                if ben.addresses[0] in _line(screen, number):
                    screen.type(f"{number}\n")
            screen.until("Both screens show this code")
            assert f"at {ben.addresses[0]}:7702" in screen.shown
            screen.type("\x03")
            assert screen.end() == 0
        # of two it is the one that let us in before
        with Verb("join", home=tmp_path / "cleo", on=cleo.words) as newcomer:
            assert newcomer.event("found")["door"] == f"{ben.addresses[0]}:7702"
            newcomer.event("ready")
            assert newcomer.interrupt() == 0


def examined(host, home, *words) -> dict[str, dict]:
    """What `hands doctor` finds there, by name."""
    said = done("doctor", *words, "--json", home=home, on=host.words)
    told = [json.loads(line) for line in said.stdout.splitlines()]
    assert said.returncode == any(not one["ok"] for one in told if one["event"] == "check"), said
    return {one["name"]: one for one in told if one["event"] == "check"}


def test_the_doctor_says_where_it_breaks(tmp_path):
    with hosts.network(2, APART) as ((anna, ben), net), serving(anna, tmp_path / "anna") as swarm:
        swarm.event("coverage")
        door = f"{anna.addresses[0]}:7702"
        told = examined(ben, tmp_path / "ben")
        assert told["swarm"]["ok"]
        assert told[f"door {door}"]["ok"]
        assert told["clock"]["ok"]
        assert told["multicast on eth0"]["ok"]
        assert all(one["ok"] for one in examined(anna, tmp_path / "anna").values())
        net.drop_multicast()
        told = examined(ben, tmp_path / "ben", anna.addresses[0])
        assert told["multicast on eth0"]["ok"]  # this machine is not at fault
        assert not told["swarm"]["ok"]
        assert told["heard"]["mend"] == f"hands join {door}"
        ben.ip("link", "set", "eth0", "multicast", "off")
        told = examined(ben, tmp_path / "ben")
        assert "ip link set eth0 multicast on" in told["multicast on eth0"]["mend"]
        ben.ip("link", "set", "eth0", "down")
        told = examined(ben, tmp_path / "ben", anna.addresses[0])
        assert not told["network"]["ok"]
        assert not told[f"door {door}"]["ok"]
