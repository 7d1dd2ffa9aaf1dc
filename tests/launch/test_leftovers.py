"""Folders with keys are gone when their process is, however it ended."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from manyhands.launch.leftovers import LOCK, clear_all, cleared, private_folder, sweep

KEEPING = """
import time
from manyhands.launch.leftovers import private_folder

with private_folder() as folder:
    (folder / "peer-1").mkdir()
    (folder / "peer-1" / "a.key").write_text("secret")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The system's temporary folder, of this test only."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_private_folder_is_gone_in_the_end(temporary):
    with private_folder() as folder:
        (folder / "a.key").write_text("secret")
        if os.name == "posix":
            assert folder.stat().st_mode & 0o77 == 0
        sweep()
        assert (folder / "a.key").exists()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_what_a_running_one_uses_is_not(temporary):
    for_others = temporary / "manyhands-of-another-program"
    for_others.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", KEEPING], stdout=subprocess.PIPE, text=True
    ) as process:
        folder = process.stdout.readline().strip()
        sweep()
        assert os.path.exists(f"{folder}/peer-1/a.key")
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    assert os.path.exists(f"{folder}/peer-1/a.key")
    with private_folder() as another:
        assert sorted(temporary.iterdir()) == sorted([another, for_others])


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_to_a_folder_is_not_followed(temporary):
    real = temporary / "real"
    real.mkdir()
    (real / LOCK).touch()
    (temporary / "manyhands-link").symlink_to(real)
    sweep()
    assert (real / LOCK).exists()


def test_who_ends_at_once_clears_the_newest_first_and_each_once():
    told = []
    with cleared(lambda: told.append("older")):
        with cleared(lambda: told.append("ended")):
            pass
        with private_folder() as folder, cleared(lambda: told.append(folder.exists())):
            clear_all()
            assert told == ["ended", True, "older"]
            assert not folder.exists()
    assert told == ["ended", True, "older"]
