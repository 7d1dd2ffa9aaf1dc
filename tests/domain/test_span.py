"""The algebra of half-open layer ranges, against plain sets of layers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.span import Span, even_cuts, is_cover, missing

LAYERS = 12
spans = st.tuples(st.integers(0, LAYERS - 1), st.integers(1, LAYERS)).map(
    lambda pair: Span(min(pair[0], pair[1] - 1), max(pair[0] + 1, pair[1]))
)


def layers_of(span):
    return set(range(span.first, span.last))


@given(spans, spans)
def test_overlap_is_the_layers_in_both(one, other):
    both = one.overlap(other)
    assert (layers_of(both) if both else set()) == layers_of(one) & layers_of(other)
    assert both == other.overlap(one)


@given(spans, spans)
def test_covers_means_every_layer_is_within(one, other):
    assert one.covers(other) == (layers_of(other) <= layers_of(one))


@given(spans)
def test_length_membership_and_text_agree_with_the_layers(span):
    assert len(span) == len(layers_of(span))
    assert [n for n in range(-1, LAYERS + 1) if n in span] == sorted(layers_of(span))
    assert "3" not in span
    assert str(span) == f"[{span.first}, {span.last})"


@given(st.lists(spans, max_size=5), st.integers(1, LAYERS))
def test_missing_are_the_layers_nobody_holds_in_maximal_spans(held, layers):
    gaps = missing(held, layers)
    told = [layer for gap in gaps for layer in range(gap.first, gap.last)]
    assert told == sorted(set(range(layers)).difference(*map(layers_of, held)))
    assert all(a.last < b.first for a, b in pairwise(gaps))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_spans_that_touch_end_to_end_cover(lengths):
    row, reached = [], 0
    for length in lengths:
        row.append(Span(reached, reached + length))
        reached += length
    assert is_cover(row, reached)
    assert not is_cover(row, reached + 1)
    assert not is_cover(row[1:], reached)
    assert is_cover(row[::-1], reached) == (len(row) == 1)
    assert missing(row, reached) == ()


@given(st.integers(1, 40), st.integers(1, 40))
def test_even_cuts_cover_in_lengths_that_differ_by_one_at_most(layers, parts):
    if parts > layers:
        with pytest.raises(ValueError, match="cannot be cut"):
            even_cuts(layers, parts)
        return
    cuts = even_cuts(layers, parts)
    lengths = [len(span) for span in cuts]
    assert is_cover(cuts, layers)
    assert len(cuts) == parts
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(("first", "last"), [(2, 2), (3, 2), (-1, 2)])
def test_an_empty_or_negative_span_cannot_be_made(first, last):
    with pytest.raises(ValueError, match="span"):
        Span(first, last)
