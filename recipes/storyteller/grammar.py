"""Tells stories: draws a cast, a want and a plot from the phrase tables and puts them together.

A `Story` knows what it is about, so that it can be asked for. All chance comes from the `Random`
that is passed in: the same seed tells the same stories.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

from recipes.storyteller import (
    grammar_cast,
    grammar_deeds,
    grammar_frame,
    grammar_plots,
    grammar_roads,
    grammar_things,
    grammar_trades,
)
from recipes.storyteller.grammar_cast import KINDS, PLACES, TRAITS, Kind, Place
from recipes.storyteller.grammar_deeds import DEEDS, SIGHTS, Deed, Sight
from recipes.storyteller.grammar_frame import FAREWELLS, OPENINGS, WISHES, Beat, Maybe
from recipes.storyteller.grammar_names import make_name
from recipes.storyteller.grammar_plots import EARN, FETCH, MAKE, Plot
from recipes.storyteller.grammar_roads import LEARN, TRAVEL
from recipes.storyteller.grammar_things import THINGS, Want
from recipes.storyteller.grammar_trades import FOUND, GIFT, SHARE, SWAP

Wanted = Want | Deed | Sight

THING_PLOTS: dict[str, Plot] = {
    "make": MAKE,
    "earn": EARN,
    "fetch": FETCH,
    "swap": SWAP,
    "gift": GIFT,
    "found": FOUND,
    "share": SHARE,
}
"""By the names that `Want.not_by` uses."""

PRONOUNS = {
    "he": {"he": "he", "him": "him", "his": "his", "hers": "his", "himself": "himself"},
    "she": {
        "he": "she",
        "him": "her",
        "his": "her",
        "hers": "hers",
        "himself": "herself",
    },
}
SINGULAR = {
    "paws": "paw",
    "wings": "wing",
    "hands": "hand",
    "claws": "claw",
    "hooves": "hoof",
}


Size = Literal["tiny", "short", "full"]


@dataclass(frozen=True, slots=True)
class Character:
    """Who somebody is; `pronoun` is "he" or "she"."""

    name: str
    kind: Kind
    pronoun: str
    trait: str


@dataclass(frozen=True, slots=True)
class Story:
    """A told story and what it is about; `wish` is as in "wanted a lantern". `bound` is what the
    text says that fits no other wish: why, and what came of it.
    """

    text: str
    cast: tuple[Character, ...]
    place: Place
    wish: str
    word: str
    bound: tuple[str, ...]


TABLES = (
    grammar_cast,
    grammar_deeds,
    grammar_frame,
    grammar_plots,
    grammar_roads,
    grammar_things,
    grammar_trades,
)


@cache
def known_words() -> frozenset[str]:
    """Every word of the phrase tables in lower case: made-up names keep clear of them."""
    words: set[str] = set()
    for module in TABLES:
        for name, value in vars(module).items():
            if name.isupper():
                words.update(_words_of(value))
    extra = (
        *PRONOUNS["he"].values(),
        *PRONOUNS["she"].values(),
        *SINGULAR.values(),
        "an",
    )
    return frozenset(words | set(extra))


def _words_of(value: object) -> set[str]:
    if isinstance(value, str):
        return set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", value).lower()))
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        return set().union(*map(_words_of, value))
    return set()


def with_article(words: str) -> str:
    """`a` or `an` before the words, by how they begin."""
    sounds_open = words[0].lower() in "aeiou" or words.startswith("honest")
    return f"{'an' if sounds_open else 'a'} {words}"


def make_character(rng: Random, taken: tuple[str, ...], pronoun: str) -> Character:
    """Somebody new; the name starts with another letter than those `taken`."""
    kind = rng.choice(KINDS)
    while kind.only not in {"", pronoun}:
        kind = rng.choice(KINDS)
    name = make_name(rng)
    while name.lower() in known_words() or any(name[0] == other[0] for other in taken):
        name = make_name(rng)
    return Character(name, kind, pronoun, rng.choice(TRAITS))


def tell(rng: Random, size: Size = "full") -> Story:
    """One story. A short one has two characters and leaves out what can be left out; a tiny one is
    beginning, meeting and end, for the first lessons: the parser does not take it for a story.

    The hero is she and everybody else he, for a model this small does not learn whose pronoun is
    whose.
    """
    short = size != "full"
    plots = [name for name, plot in THING_PLOTS.items() if not short or plot.cast < 3]
    want: Wanted
    lot = rng.random()
    if lot < 0.66:
        want = rng.choice(THINGS)
        plot = THING_PLOTS[rng.choice([name for name in plots if name not in want.not_by])]
        wish, the_want = with_article(want.word), f"the {want.word}"
    elif lot < 0.84:
        want, plot = rng.choice(DEEDS), LEARN
        wish, the_want = want.phrase, "{F}"
    else:
        want, plot = rng.choice(SIGHTS), TRAVEL
        wish, the_want = want.phrase, f"the {want.word}"
    cast: tuple[Character, ...] = ()
    for _ in range(plot.cast):
        pronoun = "he" if cast else "she"
        cast = (*cast, make_character(rng, tuple(one.name for one in cast), pronoun))
    place = rng.choice(PLACES)
    slots = _slots(cast, place, want.word, rng)
    slots |= {"wish": wish, "the_want": the_want, "w": want.word}
    if isinstance(want, Deed):
        slots["fault"], slots["advice"] = rng.choice(want.faults)
    told = _Telling(rng, slots, size)
    text = told.story(want, plot)
    return Story(text, cast, place, wish, want.word, (told.said("why"), told.said("then")))


def _slots(cast: tuple[Character, ...], place: Place, word: str, rng: Random) -> dict[str, str]:
    hero, friend, third = cast[0], cast[1], cast[-1]
    friend_pronouns = {f"f{slot}": word for slot, word in PRONOUNS[friend.pronoun].items()}
    return {
        **PRONOUNS[hero.pronoun],
        **friend_pronouns,
        "H": hero.name,
        "F": friend.name,
        "G": third.name,
        "a_trait_kind": with_article(f"{hero.trait} {hero.kind.noun}"),
        "a_friend": _introduced(friend, rng),
        "a_third": _introduced(third, rng),
        "hands": hero.kind.hands,
        "hand": SINGULAR[hero.kind.hands],
        "in_place": place.first,
        "the_place": f"the {place.later}",
        "t": word,
        "a_t": with_article(word),
    }


def _introduced(who: Character, rng: Random) -> str:
    described = who.kind.noun if rng.random() < 0.5 else f"{who.trait} {who.kind.noun}"
    return f"{with_article(described)} called {who.name}"


class _Telling:
    """Fills phrases: slots may hold slots; a slot with a capital is the phrase so begun."""

    def __init__(self, rng: Random, slots: dict[str, str], size: Size) -> None:
        self._rng, self._slots, self._size = rng, slots, size

    def story(self, want: Wanted, plot: Plot) -> str:
        rng, slots = self._rng, self._slots
        slots |= dict(zip(plot.slots, rng.choice(plot.turns), strict=True))
        slots |= {
            "why": rng.choice(want.why),
            "then": rng.choice(want.then),
            "weather": rng.choice(grammar_cast.WEATHER),
            "sigh": rng.choice(grammar_cast.SIGHS),
            "meeting": rng.choice(grammar_cast.MEETINGS),
            "thanks": rng.choice(grammar_frame.THANKS),
            "gladness": rng.choice(grammar_frame.GLADNESS),
            "modesty": rng.choice(grammar_frame.MODESTY),
        }
        slots |= {
            "cause_said": slots.get("cause", "").replace("{he}", "I"),
            "lesson_low": _lowered(slots.get("lesson", "")),
            "idea_own": slots.get("idea", "").replace("You ", "I ").replace(" you ", " I "),
        }
        # "It was as big as a church, and so …" would come before what it is
        wishes = WISHES[:-1] if isinstance(want, Sight) else WISHES
        middle = plot.paragraphs
        if self._size == "tiny":
            middle = ((grammar_cast.MEETINGS, grammar_frame.THANKS),)
        paragraphs = [
            (OPENINGS, Maybe(grammar_cast.HABITS), wishes),
            *middle,
            (("{then}",), FAREWELLS),
        ]
        return "\n\n".join(self._paragraph(beats) for beats in paragraphs)

    def said(self, name: str) -> str:
        """What a slot says in the story that was told."""
        return self._fill(self._slots[name])

    def _paragraph(self, beats: tuple[Beat, ...]) -> str:
        told = []
        for beat in beats:
            if isinstance(beat, Maybe):
                if self._size == "short" or self._rng.random() < 0.5:
                    continue
                beat = beat.phrases
            told.append(_begun(self._fill(self._rng.choice(beat))))
        return " ".join(told)

    def _fill(self, phrase: str) -> str:
        return re.sub(r"\{(\w+)\}", self._slot, phrase)

    def _slot(self, match: re.Match[str]) -> str:
        name = match[1]
        if name in self._slots:
            return self._fill(self._slots[name])
        return _begun(self._fill(self._slots[_lowered(name)]))


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
