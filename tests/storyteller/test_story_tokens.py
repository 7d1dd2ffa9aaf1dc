"""The storyteller's tokenizer holds any text, cuts a name alike everywhere, and is reproducible."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from manyhands.store.builtin import storyteller_folder
from manyhands.store.tokenizer import Tokenizer
from recipes.storyteller import tokens
from recipes.storyteller.__main__ import make_tokenizer


@pytest.fixture(scope="module")
def shipped():
    return Tokenizer.open(storyteller_folder())


@given(text=some.text(max_size=200))
def test_any_text_comes_back_whole(text):
    made = Tokenizer.open(storyteller_folder())
    assert made.decode(made.encode(text, add_special=False), skip_special=False) == text


def test_special_tokens_come_first(shipped):
    assert [shipped.token_id(one) for one in tokens.SPECIALS] == [0, 1, 2, 3]
    assert shipped.size == tokens.VOCABULARY


def test_a_plain_prompt_begins_a_story(shipped):
    assert shipped.encode("Once upon a time")[0] == tokens.STORY_ID


@pytest.mark.parametrize("name", ["Zomilda", "Anna", "Trugulmind"])
def test_a_name_is_the_same_tokens_wherever_it_stands(shipped, name):
    alone = shipped.encode(name, add_special=False)
    for text in (f"said {name}.", f'"{name}, wait!"', f"A fox. {name} ran", f"called {name}'s"):
        ids = shipped.encode(text, add_special=False)
        assert any(ids[at : at + len(alone)] == alone for at in range(len(ids))), text


def test_the_last_thing_said_is_the_ask(shipped):
    chat = [
        {"role": "system", "content": "You tell stories."},
        {"role": "user", "content": "Tell me a story."},
        {"role": "assistant", "content": "Once."},
        {"role": "user", "content": " Tell me about Anna. "},
    ]
    assert shipped.render_text(chat) == "<|ask|>Tell me about Anna.<|story|>"
    assert shipped.render(chat)[-1] == tokens.STORY_ID
    assert shipped.render_text([{"role": "assistant", "content": "Once."}]) == "<|story|>"


def test_the_shipped_template_is_the_recipes(shipped):
    said = json.loads((storyteller_folder() / "tokenizer_config.json").read_text("utf-8"))
    assert said["chat_template"] == tokens.CHAT_TEMPLATE


def test_the_same_seed_makes_the_same_tokenizer():
    one, two = (make_tokenizer(5, count=200).to_str() for _ in range(2))
    assert one == two
    assert one != make_tokenizer(6, count=200).to_str()


@pytest.mark.slow
def test_the_shipped_tokenizer_is_what_the_recipe_makes():
    shipped = (storyteller_folder() / "tokenizer.json").read_text("utf-8")
    assert json.loads(make_tokenizer(20).to_str()) == json.loads(shipped)
