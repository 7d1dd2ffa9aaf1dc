"""Where to listen: the usual port while it is free, any other then, and addresses others reach."""

import socket

import pytest

from manyhands.errors import UserError
from manyhands.launch.ports import is_free, port_for


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_port_that_was_named_is_taken_at_its_word(taken):
    assert port_for("127.0.0.1", taken, 7701) == taken
    assert port_for("127.0.0.1", 0, 7701) == 0


@pytest.mark.parametrize("wanted", [-1, 65536, 10**30])
def test_a_number_that_is_no_port_is_the_users_error(wanted):
    with pytest.raises(UserError, match=r"it must be in \[1, 65535\]"):
        port_for("127.0.0.1", wanted, 7701)


def test_the_usual_port_gives_way_when_it_is_taken(taken):
    assert not is_free("127.0.0.1", taken)
    assert port_for("127.0.0.1", None, taken) == 0


def test_the_usual_port_is_used_when_it_is_free(taken):
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    assert is_free("127.0.0.1", free)
    assert port_for("127.0.0.1", None, free) == free


@pytest.mark.parametrize("host", ["a..b", "203.0.113.9", "x" * 64])
def test_at_hosts_that_are_not_ours_nothing_is_free(host):
    assert not is_free(host, 0)
    assert port_for(host, None, 7701) == 0
