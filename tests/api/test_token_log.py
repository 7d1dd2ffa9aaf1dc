"""Tokens told no earlier than their text is shown, and never when it is cut off."""

from __future__ import annotations

import math

import pytest

from manyhands.api.token_log import LEAST_LOGPROB, TokenLog, TokenTexts
from manyhands.node.generate import Token
from manyhands.store.tokenizer import Tokenizer

TEXT = "Grüße aus Köln 🙂, many hands"


@pytest.fixture(scope="module")
def tokenizer(llama):
    return Tokenizer.open(llama)


def log_of(tokenizer, ids, **changes) -> TokenLog:
    log = TokenLog(tokenizer, TokenTexts(tokenizer), **{"shown_top": 0, **changes})
    for token in ids:
        log.add(Token(token, -1.0, ((token, -1.0), (5, -2.0))))
    return log


def test_texts_of_single_tokens_keep_their_spaces_and_special_ones_their_names(tokenizer):
    texts = TokenTexts(tokenizer)
    ids = tokenizer.encode(" many hands", add_special=False)
    assert "".join(map(texts.of, ids)) == " many hands"
    assert texts.of(3) == "<|system|>"
    smile = tokenizer.encode("🙂", add_special=False)
    if len(smile) > 1:
        assert "\ufffd" in texts.of(smile[0])


def test_offsets_are_where_the_text_of_each_token_begins(tokenizer):
    ids = tokenizer.encode(TEXT, add_special=False)
    logged = log_of(tokenizer, ids, start=100).finish(len(TEXT))
    assert len(logged) == len(ids)
    for token in logged:
        if "\ufffd" not in token.text:
            assert TEXT[token.offset - 100 :].startswith(token.text)
    assert [token.offset for token in logged] == sorted(token.offset for token in logged)


def test_what_is_not_shown_is_not_told(tokenizer):
    ids = tokenizer.encode(TEXT, add_special=False)
    log = log_of(tokenizer, ids)
    assert log.release(0) == ()
    first = log.release(6)
    assert first
    assert all(token.offset < 6 for token in first)
    rest = log.finish(10)
    assert all(6 <= token.offset < 10 for token in rest)
    whole = log_of(tokenizer, [*ids, 1]).finish(len(TEXT))
    assert whole[-1].text == "</s>"  # said after all the text, and nothing was cut


def test_only_as_many_alternatives_are_told_as_were_asked_for(tokenizer):
    for count in (0, 1, 2):
        (token,) = log_of(tokenizer, [40], shown_top=count).finish(10**6)
        assert len(token.top) == count


def test_never_is_a_number_that_json_has(tokenizer):
    log = log_of(tokenizer, [])
    log.add(Token(40, -math.inf, ((41, -math.inf),)))
    log.add(Token(40))
    assert {token.logprob for token in log.finish(10**6)} == {LEAST_LOGPROB}
