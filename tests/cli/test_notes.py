"""Notes of what runs here: gone with the process, and never believed of a dead one."""

import json

from manyhands.cli.notes import announced, running
from manyhands.store.home import Home


def test_a_note_is_there_while_it_runs_and_gone_afterwards(tmp_path):
    home = Home(tmp_path)
    with announced(home, "http://127.0.0.1:7700", 5.0, "secret"):
        (note,) = running(home)
        assert (note.url, note.since, note.key) == ("http://127.0.0.1:7700", 5.0, "secret")
    assert running(home) == []
    assert list((tmp_path / "running").iterdir()) == []


def test_a_note_that_nobody_holds_is_removed_with_the_key_in_it(tmp_path):
    file = tmp_path / "running" / "api-1.json"
    file.parent.mkdir()
    file.write_text(
        json.dumps({"url": "http://127.0.0.1:9", "pid": 1, "since": 1, "key": "secret"})
    )
    assert running(Home(tmp_path)) == []
    assert not file.exists()
