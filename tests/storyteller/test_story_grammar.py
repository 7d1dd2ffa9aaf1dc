"""The grammar tells no story twice, keeps its names, and is accepted by its own parser."""

from __future__ import annotations

import hashlib
import re
from random import Random

import pytest

from recipes.storyteller.asks import ask_for
from recipes.storyteller.grammar import known_words, tell, with_article
from recipes.storyteller.grammar_names import make_name
from recipes.storyteller.parser import accepts, parse


def test_no_two_of_10000_stories_are_alike_even_without_their_names():
    rng = Random(1)
    seen = set()
    for _ in range(10_000):
        story = tell(rng)
        text = story.text
        for number, one in enumerate(story.cast):
            text = re.sub(rf"\b{one.name}\b", f"<{number}>", text)
        seen.add(hashlib.sha256(text.encode()).digest())
    assert len(seen) == 10_000


def test_names_are_made_up_not_listed():
    rng = Random(2)
    names = [make_name(rng) for _ in range(20_000)]
    assert len(set(names)) > 19_000
    assert all(re.fullmatch("[A-Z][a-z]{1,10}", name) for name in names)


def test_the_same_seed_tells_the_same_stories():
    assert [tell(Random(7)).text for _ in range(2)] == [tell(Random(7)).text] * 2
    assert tell(Random("7 and more")).text != tell(Random(7)).text


def test_the_corpus_of_a_seed_is_the_same_everywhere():
    rng = Random("corpus")
    told = "\n".join(f"{ask_for(story, rng)}\n{story.text}" for story in map(tell, [rng] * 50))
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "d46f8a12e63ba078"


@pytest.mark.parametrize("size", ["short", "full"])
def test_the_parser_accepts_every_story_and_reads_what_it_is_about(size):
    rng = Random(3)
    for _ in range(300):
        story = tell(rng, size)
        parsed = parse(story.text)
        assert parsed.faults == (), story.text
        hero, *others = story.cast
        assert (parsed.hero, parsed.kind, parsed.wish) == (hero.name, hero.kind.noun, story.wish)
        assert set(parsed.others) <= {one.name for one in others}


def test_stories_are_of_the_length_they_are_meant_to_be():
    rng = Random(4)
    words = [len(tell(rng).text.split()) for _ in range(500)]
    assert min(words) >= 90
    assert max(words) <= 300


def test_no_name_is_a_word_of_the_stories():
    rng = Random(5)
    named = {one.name.lower() for _ in range(500) for one in tell(rng).cast}
    assert not named & known_words()


def test_asks_name_what_the_story_is_about():
    rng = Random(6)
    asked = [(story, ask_for(story, rng)) for story in map(tell, [rng] * 2000)]
    named = sum(story.cast[0].name in ask for story, ask in asked)
    wanted = sum(story.word in ask for story, ask in asked)
    assert named > 1200
    assert wanted > 400
    assert len({ask for _, ask in asked}) > 1500
    exact = [(story, ask_for(story, rng, exact=True)) for story in map(tell, [rng] * 2000)]
    assert sum(story.word in ask for story, ask in exact) > wanted


def test_the_hero_is_she_and_everybody_else_he():
    rng = Random(8)
    for _ in range(200):
        hero, *others = tell(rng).cast
        assert hero.pronoun == "she"
        assert hero.kind.only != "he"
        assert {one.pronoun for one in others} == {"he"}


def test_what_fits_only_this_wish_is_in_the_story():
    rng = Random(10)
    for _ in range(100):
        story = tell(rng)
        assert len(story.bound) == 2
        assert all(phrase.lower() in story.text.lower() for phrase in story.bound)


def test_articles_follow_the_sound():
    assert [with_article(one) for one in ("owl", "fox", "honest fox")] == [
        "an owl",
        "a fox",
        "an honest fox",
    ]


def _stories(count=40):
    rng = Random(9)
    return [tell(rng) for _ in range(count)]


def _swap_a_name(story):
    *_, last = re.finditer(rf"\b{story.cast[0].name}\b", story.text)
    return story.text[: last.start()] + "Grumbleta" + story.text[last.end() :]


def _misspell_a_name(story):
    *_, last = re.finditer(rf"\b{story.cast[0].name}\b", story.text)
    return story.text[: last.end()] + "l" + story.text[last.end() :]


def _cut_the_ending(story):
    return story.text.rsplit("\n\n", 1)[0]


def _break_off(story):
    return story.text[: len(story.text) - 12]


def _change_the_wish(story):
    other = "a lantern" if story.wish != "a lantern" else "a kite"
    first, rest = story.text.split("\n\n", 1)
    return re.sub(rf"\b{story.wish}\b(?=[,.])", other, first) + "\n\n" + rest


def _end_of_another(story):
    other = next(one for one in _stories() if one.word != story.word)
    ending = other.text.rsplit("\n\n", 1)[1].replace(other.cast[0].name, story.cast[0].name)
    return f"{story.text.rsplit(chr(10) * 2, 1)[0]}\n\n{ending}"


def _lose_a_mark(story):
    at = story.text.rindex('"')
    return story.text[:at] + story.text[at + 1 :]


def _forget_the_introduction(story):
    name = story.cast[1].name
    return re.sub(rf"\b[Aa]n? (?:\w+ )?\w+ called {name}", name, story.text)


def _change_the_pronoun(story):
    first, rest = story.text.split("\n\n", 1)
    he = story.cast[0].pronoun
    other = {"he": "she", "she": "he"}[he]
    return f"{first} {other.capitalize()} slept well. {he.capitalize()} slept well.\n\n{rest}"


def _babble(story):
    first, rest = story.text.split(" and ", 1)
    return f"{first} and bloople {rest}"


def _add_a_stranger(story):
    return story.text.replace("\n\n", " Then Bob came.\n\n", 1)


def _glue_paragraphs(story):
    return story.text.replace("\n\n", " ", 1)


def _twice(story):
    return f"{story.text}\n\n{story.text}"


CORRUPTIONS = [
    _swap_a_name,
    _misspell_a_name,
    _cut_the_ending,
    _break_off,
    _change_the_wish,
    _end_of_another,
    _lose_a_mark,
    _forget_the_introduction,
    _change_the_pronoun,
    _babble,
    _add_a_stranger,
    _glue_paragraphs,
    _twice,
]


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda one: one.__name__.strip("_"))
def test_the_parser_rejects(corrupt):
    for story in _stories():
        corrupted = corrupt(story)
        assert corrupted != story.text
        assert not accepts(corrupted), corrupted


@pytest.mark.parametrize("text", ["", "\n\n", "Hello.", "Once upon a time", '"' * 7, "\u00e9" * 50])
def test_the_parser_rejects_what_is_no_story(text):
    assert not accepts(text)
