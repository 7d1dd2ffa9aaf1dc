"""A value of a config comes out with its type and range, or as an error that names its key."""

import pytest

from manyhands.errors import CheckpointError
from manyhands.families import values


def test_what_is_there_comes_out_and_what_is_not_takes_its_default():
    config = {"n": 3, "x": 2, "flag": False, "word": "a", "list": [1, 2], "part": {"y": 1}}
    assert values.whole(config, "n") == 3
    assert values.whole(config, "m", 5) == 5
    assert values.number(config, "x") == 2.0
    assert isinstance(values.number(config, "x"), float)
    assert values.optional_number(config, "absent") is None
    assert values.flag(config, "flag", True) is False
    assert values.flag(config, "absent") is False
    assert values.word(config, "word") == "a"
    assert values.numbers(config, "list", 2) == (1.0, 2.0)
    assert values.words(config, "absent", 2) is None
    assert values.section(config, "part") == {"y": 1}
    assert values.section(config, "absent") == {}


def test_null_counts_as_missing():
    assert values.whole({"n": None}, "n", 4) == 4
    with pytest.raises(CheckpointError, match="n is missing"):
        values.whole({"n": None}, "n")


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (values.whole, 0),
        (values.whole, True),
        (values.whole, 1.0),
        (values.whole, values.MOST + 1),
        (values.number, 0),
        (values.number, True),
        (values.number, "1"),
        (values.number, float("nan")),
        (values.number, float("inf")),
        (values.number, 10**400),
        (values.number, 1e-19),
        (values.number, -1.0),
        (values.flag, 0),
        (values.flag, "true"),
        (values.word, 1),
        (values.section, []),
        (values.section, "x" * 1000),
    ],
)
def test_a_wrong_value_is_named_with_its_key_in_a_short_message(read, value):
    with pytest.raises(CheckpointError, match="some_key") as caught:
        read({"some_key": value}, "some_key")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", [[1], [1, 0], [1, "2"], "12", {1: 2}, [1, None]])
def test_a_list_has_the_count_and_the_kind_asked_for(value):
    with pytest.raises(CheckpointError, match="some_key"):
        values.numbers({"some_key": value}, "some_key", 2)
    with pytest.raises(CheckpointError, match="some_key"):
        values.words({"some_key": value}, "some_key", 2)
