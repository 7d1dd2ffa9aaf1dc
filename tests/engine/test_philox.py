"""Philox against the known answers of the Random123 distribution."""

import numpy as np
import pytest

from manyhands.engine.philox import philox4x32, uniform

ONES = 0xFFFFFFFF
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def column(*words):
    return tuple(np.array([word], np.uint64) for word in words)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_known_answers_of_random123_are_given(counter, key, answer):
    assert tuple(philox4x32(column(*counter), key)[:, 0]) == answer


def test_a_word_does_not_depend_on_what_is_asked_beside_it():
    many = np.arange(1000, dtype=np.uint64)
    one = column(7, 9, 0)
    together = philox4x32((many, *one), (1, 2))
    alone = philox4x32((many[321:322], *one), (1, 2))
    assert np.array_equal(together[:, 321], alone[:, 0])


def test_uniform_numbers_never_reach_zero_or_one():
    ends = uniform(np.array([0, ONES], np.uint64))
    assert 0 < ends[0] < 1e-9
    assert 1 - 1e-9 < ends[1] < 1
