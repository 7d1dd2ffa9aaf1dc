"""A home folder: one key a process, secrets for its owner's eyes, and what swarms gave us kept."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading

import pytest

from manyhands.domain.admission import Contact
from manyhands.errors import ResourceError, UserError
from manyhands.store.home import (
    FOLDER_VARIABLE,
    MOST_PEERS,
    Home,
    Joined,
    membership_of,
    new_serial,
)
from manyhands.trust.certificate import Membership, admit
from manyhands.trust.signature import KeyPair
from tls_cases import NOW_S, SWARM, member

is_posix = pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
is_no_root = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere"
)


@pytest.fixture
def home(tmp_path):
    with Home(tmp_path / "home") as made:
        yield made


def joined(keys: KeyPair, door: str = "10.0.0.1:7702") -> Joined:
    given = member(keys)
    return Joined(
        given.certificate_pem.decode(),
        given.authority_pem.decode(),
        door,
        (Contact(SWARM.keys.peer, "tcp:10.0.0.1:7701"),),
    )


def test_a_process_keeps_its_key_and_the_next_one_gets_the_same(tmp_path):
    with Home(tmp_path) as first:
        keys = first.keys()
    with Home(tmp_path) as second:
        assert second.keys().peer == keys.peer


def test_two_at_a_time_are_two_peers(tmp_path):
    with Home(tmp_path) as one, Home(tmp_path) as two:
        first, second = one.keys(), two.keys()
        assert first.peer != second.peer
        one.close()
        with Home(tmp_path) as three:
            assert three.keys().peer == first.peer


def test_a_key_is_free_again_when_its_process_was_killed(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from manyhands.store.home import Home\n"
        "home = Home(Path(sys.argv[1])); print(home.keys().peer, flush=True); os._exit(9)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 9
    with Home(tmp_path) as home:
        assert home.keys().peer == told.stdout.strip()


def test_more_processes_than_there_are_keys_are_told_so(tmp_path):
    with contextlib.ExitStack() as homes:
        for _ in range(MOST_PEERS):
            homes.enter_context(Home(tmp_path)).keys()
        with pytest.raises(UserError, match=rf"{MOST_PEERS} processes of .* are running"):
            Home(tmp_path).keys()


def test_the_swarm_founded_here_is_founded_once(tmp_path):
    with Home(tmp_path) as home:
        first = home.authority(NOW_S)
    with Home(tmp_path) as home:
        again = home.authority(NOW_S + 1e6)
    assert (again.swarm, again.certificate_pem) == (first.swarm, first.certificate_pem)
    keys = KeyPair.from_seed(b"k" * 32)
    Membership(keys, admit(again, keys.peer, NOW_S, 60, new_serial()), again.certificate_pem)


def test_processes_that_found_at_once_found_one_swarm(tmp_path):
    found = []

    def work():
        with Home(tmp_path) as home:
            found.append(home.authority(NOW_S))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert len({(one.swarm, one.certificate_pem) for one in found}) == 1


@pytest.mark.parametrize("lost", ["authority.key", "authority.pem"])
def test_a_swarm_of_which_a_half_was_lost_can_be_used_again(home, lost):
    home.authority(NOW_S)
    (home.folder / "swarm" / lost).unlink()
    again = home.authority(NOW_S)
    keys = KeyPair.from_seed(b"k" * 32)
    Membership(keys, admit(again, keys.peer, NOW_S, 60, new_serial()), again.certificate_pem)


@is_posix
def test_secrets_are_readable_by_their_owner_only_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with Home(tmp_path / "home") as home:
            keys = home.keys()
            home.authority(NOW_S)
            home.remember(keys, joined(keys))
            home.write_running("api-1", {"key": "secret"})
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "home").rglob("*") if file.suffix != ".lock"]
    for file in files:
        wanted = 0o700 if file.is_dir() else 0o600
        assert stat.S_IMODE(file.stat().st_mode) == wanted, file
    assert {file.name for file in files} >= {"peer-1.key", "authority.key", "api-1.json"}


def test_nothing_half_written_is_left(home):
    keys = home.keys()
    home.authority(NOW_S)
    home.remember(keys, joined(keys))
    assert not list(home.folder.rglob("*.new"))


def test_what_a_swarm_gave_is_known_again_by_key_and_door(home):
    keys, others = home.keys(), KeyPair.from_seed(b"x" * 32)
    given = joined(keys)
    assert home.membership(keys, given.door) is None
    home.remember(keys, given)
    assert home.membership(keys, given.door) == given
    assert membership_of(keys, given).swarm == SWARM.swarm
    assert home.membership(keys, "10.0.0.1:7703") is None
    assert home.membership(others, given.door) is None
    newer = joined(keys)
    home.remember(keys, newer)
    assert home.membership(keys, given.door) == newer


def test_a_door_of_any_name_has_a_file(home):
    keys = home.keys()
    doors = [f"{'x' * 253}:7702", "[fe80::1%eth0]:7702", "../../etc/passwd:1", "HOST:1", "host:1"]
    for door in doors:
        home.remember(keys, joined(keys, door))
    assert [home.membership(keys, door).door for door in doors] == doors
    assert {file.parent.name for file in home.folder.rglob("*.json")} == {"joined"}
    names = [file.name.lower() for file in home.folder.rglob("*.json")]
    assert len(set(names)) == len(doors)  # where small and capital letters are the same, too


@pytest.mark.parametrize("data", [b"", b"{", b'{"door": 1}', b'{"door": "\xff"}', b"[]"])
def test_a_damaged_membership_is_the_users_error_that_names_the_file(home, data):
    keys = home.keys()
    home.remember(keys, joined(keys))
    (file,) = (home.folder / "joined").iterdir()
    file.write_bytes(data)
    with pytest.raises(UserError, match=f"{file.name} is damaged"):
        home.membership(keys, "10.0.0.1:7702")


def test_a_membership_of_another_peer_is_the_users_error():
    keys, others = KeyPair.from_seed(b"k" * 32), KeyPair.from_seed(b"x" * 32)
    with pytest.raises(UserError, match="needs one of its own"):
        membership_of(others, joined(keys))


def test_a_damaged_key_is_the_users_error_that_names_the_file(tmp_path):
    with Home(tmp_path) as home:
        home.keys()
    (tmp_path / "keys" / "peer-1.key").write_bytes(b"short")
    with Home(tmp_path) as home, pytest.raises(UserError, match=r"peer-1\.key is damaged"):
        home.keys()


def test_notes_of_what_runs_are_found_and_garbage_is_not(home):
    assert home.running() == []
    file = home.write_running("api-1", {"url": "http://127.0.0.1:1"})
    home.write_running("api-2", {"url": "http://127.0.0.1:2"})
    file.with_name("bad.json").write_bytes(b"{")
    file.with_name("list.json").write_bytes(b"[]")
    file.with_name("bytes.json").write_bytes(b"\xff")
    assert [note["url"][-1] for note in home.running()] == ["1", "2"]
    file.unlink()
    assert json.loads(json.dumps(home.running())) == [{"url": "http://127.0.0.1:2"}]


def test_a_folder_that_cannot_be_made_is_said_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    for ask in (Home.keys, lambda home: home.authority(NOW_S)):
        with pytest.raises(ResourceError, match=FOLDER_VARIABLE):
            ask(Home(tmp_path / "file" / "home"))


@is_no_root
def test_a_folder_that_cannot_be_written_is_said_with_what_to_do(tmp_path):
    (tmp_path / "keys").mkdir(mode=0o500)
    with pytest.raises(ResourceError, match=FOLDER_VARIABLE):
        Home(tmp_path).keys()


def test_the_standard_folder_is_the_one_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert Home.standard().folder == tmp_path / "mine"
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    assert Home.standard().folder.name == "manyhands"
    assert not (tmp_path / "mine").exists()  # only looked at


def test_serial_numbers_are_positive_and_fit():
    serials = {new_serial() for _ in range(100)}
    assert len(serials) == 100
    assert all(0 < serial < 2**159 for serial in serials)
