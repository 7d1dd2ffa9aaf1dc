"""`hands invite`: a text, a link and a picture of it, each good for one device."""

from __future__ import annotations

import sys

import pytest
from verbs import Verb, done

from manyhands.cli.invite import drawn
from manyhands.launch.link import read_link

pytestmark = pytest.mark.timeout(180)
PORTS = ("--http-port", "0", "--peers-port", "0", "--door-port", "0")


@pytest.fixture
def serving(tmp_path):
    with Verb("serve", *PORTS, home=tmp_path / "one") as verb:
        verb.event("coverage")
        yield verb


def test_a_link_is_all_that_a_device_needs_once(serving, tmp_path):
    said = done("invite", home=tmp_path / "one")
    assert said.returncode == 0, said
    assert "within 24 h 0 min" in said.stdout
    link = said.stdout.split("hands join ")[1].split()[0]
    with Verb("join", link, home=tmp_path / "two") as newcomer:
        newcomer.event("ready")
        used = done("join", link, home=tmp_path / "three")
        assert used.returncode == 4
        assert "was used already; ask for another one" in used.stderr
        assert newcomer.interrupt() == 0


@pytest.mark.slow
def test_a_guest_works_for_its_time_and_ends_by_itself(serving, tmp_path):
    said = done("invite", "--guest", "6s", "--for", "10m", home=tmp_path / "one")
    assert "within 10 min; it is a guest for 6 s" in said.stdout
    link = said.stdout.split("hands join ")[1].split()[0]
    over = done("join", link, home=tmp_path / "two")
    assert over.returncode == 4
    assert "ready: layers" in over.stdout
    assert "the time this device was invited for is over" in over.stderr
    assert "Traceback" not in over.stderr


def test_a_copied_home_folder_is_no_second_device(serving, tmp_path):
    import shutil

    link = done("invite", home=tmp_path / "one").stdout.split("hands join ")[1].split()[0]
    with Verb("join", link, home=tmp_path / "two") as newcomer:
        newcomer.event("ready")
        shutil.copytree(tmp_path / "two", tmp_path / "copy")
        place = str(read_link(link).doors[0])
        for words in ((place,), (link,)):
            copied = done("join", *words, home=tmp_path / "copy")
            assert copied.returncode == 4
            assert "is at work already at tcp:" in copied.stderr
            assert "delete `keys` and `joined` in the copy" in copied.stderr
        assert newcomer.interrupt() == 0
    with Verb("join", place, home=tmp_path / "copy") as moved:  # alone it is as good
        moved.event("ready")
        assert moved.interrupt() == 0


@pytest.mark.parametrize("words", [("--for", "soon"), ("--guest", "0s")])
def test_odd_times_are_the_users_error(serving, tmp_path, words):
    said = done("invite", *words, home=tmp_path / "one")
    assert said.returncode == 2
    assert "is no time" in said.stderr


def test_a_link_as_a_picture_fits_a_terminal():
    link = "manyhands://10.77.0.1:7702/mh1-" + "-".join(["abcdef"] * 9) + "-a"
    lines = drawn(link).splitlines()
    assert len(lines) < 24
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) < 60
    assert set("".join(lines)) <= set(" █▀▄")


@pytest.mark.skipif(sys.platform == "win32", reason="a pty is needed")
def test_on_a_terminal_the_picture_is_shown(serving, tmp_path):
    from terminal import Terminal

    with Terminal("invite", home=tmp_path / "one") as screen:
        assert screen.end() == 0
        assert "▀" in screen.shown
        assert "hands join manyhands://" in screen.shown
