"""Passes to the page: each once, for minutes, and a key for it that ends with the server."""

import itertools

import pytest

from manyhands.api.passes import LIFE_S, MOST, Passes
from manyhands.errors import UserError


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def passes(clock):
    numbers = itertools.count()
    return Passes(clock, lambda: f"secret-{next(numbers)}")


def test_a_pass_is_changed_for_a_key_once(passes):
    shown = passes.made()
    assert not passes.is_key(shown)
    key = passes.key(shown)
    assert passes.is_key(key)
    with pytest.raises(UserError, match="hands page"):
        passes.key(shown)
    assert passes.is_key(key)


def test_a_pass_ends_and_a_key_does_not(passes, clock):
    early, late = passes.made(), passes.made()
    key = passes.key(early)
    clock.now_s = LIFE_S
    with pytest.raises(UserError, match="older than 5 minutes"):
        passes.key(late)
    assert passes.is_key(key)


@pytest.mark.parametrize("text", ["", "secret-1", "\ud800"])
def test_what_was_never_given_out_opens_nothing(passes, text):
    passes.made()
    assert not passes.is_key(text)
    with pytest.raises(UserError):
        passes.key(text)


def test_the_oldest_ends_where_there_are_too_many(passes):
    made = [passes.made() for _ in range(MOST + 1)]
    with pytest.raises(UserError):
        passes.key(made[0])
    keys = [passes.key(one) for one in made[1:]]
    one_more = passes.key(passes.made())
    assert [passes.is_key(key) for key in (keys[0], keys[1], one_more)] == [False, True, True]
