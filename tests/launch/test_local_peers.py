"""Peers as processes: what they are started as, whatever folder we stand in."""

import os

from manyhands.launch.local import _spawn


async def test_a_child_takes_nothing_of_the_folder_it_is_started_in(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('taken')\n")
    (tmp_path / "manyhands.py").write_text("raise SystemExit('taken')\n")
    monkeypatch.chdir(tmp_path)
    # a folder that was named is another thing than the one we happen to stand in
    named = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "").strip(":")}
    child = await _spawn(["join", "--help"], named)
    said, complained = await child.communicate()
    assert child.returncode == 0, complained
    assert b"Give this device to a swarm" in said
