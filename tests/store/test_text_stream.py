"""Text comes as soon as it is whole, without half characters, joined the same as all at once."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers

import tiny
from manyhands.store.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    return Tokenizer.open(tiny.make_tokenizer(tmp_path_factory.mktemp("byte-level")))


@pytest.fixture(scope="module")
def byte_fallback():
    """A tokenizer of the older, SentencePiece kind: ▁ for spaces, <0x..> for unknown bytes."""
    words = ["<s>", "</s>", "▁", "▁the", "the", "▁a", "a", "é", ".", "▁.", "\ufffd"]
    tokens = words + [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens(["<s>", "</s>"])
    return Tokenizer(made, None, {})


def pieces_of(tokenizer, ids, chunk=1):
    stream = tokenizer.stream()
    fed = [stream.feed(ids[at : at + chunk]) for at in range(0, len(ids), chunk)]
    return [*fed, stream.finish()]


@pytest.mark.parametrize("text", tiny.SENTENCES)
def test_valid_text_comes_in_whole_characters(byte_level, text):
    ids = byte_level.encode(text, add_special=False)
    pieces = pieces_of(byte_level, ids)
    assert "".join(pieces) == byte_level.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)
    assert sum(map(bool, pieces)) > len(text) / 12  # it streams, it does not wait for the end
    assert pieces[-1] == ""


def test_half_a_character_is_held_until_it_is_whole(byte_level):
    ids = byte_level.encode("東", add_special=False)
    assert len(ids) > 1
    stream = byte_level.stream()
    assert stream.feed(ids[:-1]) == ""
    assert stream.feed(ids[-1:]) == "東"
    assert stream.finish() == ""


def test_half_a_character_at_the_end_is_shown_as_one_that_is_missing(byte_level):
    ids = byte_level.encode("a東", add_special=False)[:-1]
    pieces = pieces_of(byte_level, ids)
    assert "".join(pieces[:-1]) == "a"
    assert "".join(pieces) == byte_level.decode(ids)


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, tiny.VOCABULARY + 20), max_size=40), chunk=st.integers(1, 5))
def test_any_ids_in_any_portions_join_to_what_decode_says(byte_level, ids, chunk):
    assert "".join(pieces_of(byte_level, ids, chunk)) == byte_level.decode(ids)


@settings(max_examples=500, deadline=None)
@given(
    ids=st.lists(
        st.integers(0, 10) | st.integers(0, 266) | st.sampled_from([0xE2, 0x82, 0xAC, 0x41]),
        max_size=30,
    ),
    chunk=st.integers(1, 4),
)
def test_the_same_holds_where_unknown_bytes_are_tokens(byte_fallback, ids, chunk):
    assert "".join(pieces_of(byte_fallback, ids, chunk)) == byte_fallback.decode(ids)


def test_the_space_after_a_special_token_is_not_lost(byte_fallback):
    the, special = byte_fallback.token_id("▁the"), byte_fallback.token_id("</s>")
    ids = [the, special, the, special, the]
    assert "".join(pieces_of(byte_fallback, ids)) == "the the the" == byte_fallback.decode(ids)


def test_words_come_at_once_and_bytes_when_their_run_ends(byte_fallback):
    the, stop = byte_fallback.token_id("▁the"), byte_fallback.token_id(".")
    euro = [byte_fallback.token_id(f"<0x{byte:02X}>") for byte in "€".encode()]
    assert pieces_of(byte_fallback, [the, *euro, stop]) == ["the", "", "", "", "€.", ""]


def test_ids_that_are_no_tokens_are_left_out(byte_level):
    the = byte_level.encode("the", add_special=False)
    assert "".join(pieces_of(byte_level, [-5, 2**40, 10**6, *the])) == "the"
