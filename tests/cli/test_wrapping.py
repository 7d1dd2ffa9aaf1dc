"""Streamed text breaks between words, and is otherwise untouched."""

from hypothesis import given
from hypothesis import strategies as st

from manyhands.cli.wrapping import Wrapping

TEXTS = st.text(alphabet="ab \n", max_size=80)


def shown(pieces, width):
    wrapping = Wrapping(width)
    return "".join(map(wrapping.feed, pieces)) + wrapping.finish()


def test_a_word_that_does_not_fit_goes_to_the_next_line():
    assert shown(["Once upon a ti", "me there was"], 11) == "Once upon a\ntime there \nwas"


@given(st.lists(TEXTS, max_size=6), st.integers(5, 20))
def test_no_line_is_longer_and_no_character_is_lost(pieces, width):
    text = shown(pieces, width)
    assert all(len(line) <= width for line in text.split("\n"))
    assert "".join(text.split()) == "".join("".join(pieces).split())


@given(st.lists(TEXTS, max_size=6), st.integers(5, 20))
def test_how_the_text_is_cut_into_pieces_does_not_matter(pieces, width):
    assert shown(pieces, width) == shown(["".join(pieces)], width)


def test_a_word_longer_than_a_line_is_shown_all_the_same():
    assert shown(["a" * 25], 10) == "a" * 10 + "\n" + "a" * 10 + "\n" + "a" * 5
