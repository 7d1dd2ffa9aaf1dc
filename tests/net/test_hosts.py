"""Names and addresses: which only this machine reaches, which mean every address of it."""

import pytest

from manyhands.net.hosts import host_name, is_address, is_every_address, is_loopback


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("localhost:7700", "localhost"),
        ("LOCALHOST.", "localhost"),
        ("[::1]:7700", "::1"),
        ("::1", "::1"),
        ("10.0.0.5", "10.0.0.5"),
        ("", ""),
    ],
)
def test_a_name_is_read_without_its_port(text, name):
    assert host_name(text) == name


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "[::1]:80"],
)
def test_what_only_this_machine_reaches_is_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "::", "", "192.168.1.2", "2130706433", "127.1"),
        *("example.org", "localhost.example.org", "127.0.0.1.example.org"),
    ],
)
def test_what_others_may_reach_is_not_taken_for_loopback(host):
    assert not is_loopback(host)


def test_every_address_is_none_in_particular():
    assert all(map(is_every_address, ["", "0.0.0.0", "::", "[::]"]))
    assert not any(map(is_every_address, ["127.0.0.1", "10.0.0.5", "example.org"]))
    assert all(map(is_address, ["10.0.0.5", "[fe80::1]:7700"]))
    assert not any(map(is_address, ["example.org", ""]))
