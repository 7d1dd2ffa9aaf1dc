"""The verb `bench`: one object or a table, of the folder that is named."""

import json

from verbs import done

import tiny


def test_bench_prints_one_object_of_a_folder(tmp_path):
    folder = tiny.make("qwen3", tmp_path / "m", dtype="bfloat16")
    ran = done("bench", str(folder), "--rounds", "2", "--json", home=tmp_path)
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    told = json.loads(line)
    assert told["event"] == "bench"
    assert told["rounds"] == 2
    assert told["measured"]["engine"] == "torch"
    assert told["decode"]["tok_s"] > 0
    assert told["decode"]["predicted"] > 0


def test_a_folder_that_is_not_there_is_the_users_error(tmp_path):
    ran = done("bench", str(tmp_path / "nothing"), home=tmp_path)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr


def test_no_rounds_at_all_are_refused(tmp_path):
    assert done("bench", "--rounds", "0", home=tmp_path).returncode == 2
