"""Phrases of the tables as patterns: what the parser reads a story's beginning and end with."""

from __future__ import annotations

import re
from functools import cache

from recipes.storyteller.grammar import Wanted, known_words
from recipes.storyteller.grammar_cast import KINDS, PLACES, TRAITS
from recipes.storyteller.grammar_deeds import DEEDS, SIGHTS, Deed
from recipes.storyteller.grammar_frame import FAREWELLS, OPENINGS, WISHES
from recipes.storyteller.grammar_things import THINGS

NAME = "[A-Z][a-z]+"
PRONOUNS = {
    "he": frozenset({"he", "him", "his", "himself"}),
    "she": frozenset({"she", "her", "hers", "herself"}),
}
_SLOTS = {
    "he": "(?:he|she)",
    "him": "(?:him|her)",
    "his": "(?:his|her)",
    "himself": "(?:himself|herself)",
    "hands": "(?:hands|paws|wings|claws|hooves)",
}
_SLOT = re.compile(r"\{(\w+)\}")


def pattern(phrase: str, slots: dict[str, str]) -> str:
    """A phrase as a pattern; `slots` are patterns beside those of pronouns and hands."""
    parts = _SLOT.split(phrase)
    known = {**_SLOTS, **slots}
    for at in range(1, len(parts), 2):
        slot = parts[at]
        parts[at] = known[slot] if slot in known else _begun(known[slot[0].lower() + slot[1:]])
    parts[::2] = map(re.escape, parts[::2])
    return "".join(parts)


def _begun(wanted: str) -> str:
    """The same pattern where a sentence starts with it."""
    if wanted.startswith("(?:"):
        inner = wanted.removeprefix("(?:").removesuffix(")")
        return "(?:" + "|".join(_begun(one) for one in inner.split("|")) + ")"
    return wanted[:1].upper() + wanted[1:]


@cache
def opening() -> re.Pattern[str]:
    """The first sentence: groups hero, kind, place (as first said)."""
    traits, kinds = "|".join(TRAITS), "|".join(kind.noun for kind in KINDS)
    places = "|".join(re.escape(place.first) for place in PLACES)
    said = []
    for index, phrase in enumerate(OPENINGS):
        slots = {
            "H": f"(?P<hero_{index}>{NAME})",
            "a_trait_kind": f"an? (?P<trait_{index}>{traits}) (?P<kind_{index}>{kinds})",
        }
        starts = "(?i:" if phrase.startswith("{In_place}") else "(?:"
        place = f"{starts}(?P<place_{index}>{places}))"
        said.append(
            pattern(phrase.replace("{In_place}", "{in_place}"), {**slots, "in_place": place})
        )
    return re.compile("|".join(f"(?:{one})" for one in said))


@cache
def wishes(hero: str) -> re.Pattern[str]:
    """The last sentence of the first paragraph: groups wish and why, in any capital."""
    return re.compile(
        "|".join(
            "(?:"
            + pattern(
                phrase.replace("{Why}", "{why}"),
                {
                    "H": hero,
                    "wish": f"(?P<wish_{at}>[a-z ]+?)",
                    "why": f"(?P<why_{at}>[A-Za-z][A-Za-z ,]+?)",
                },
            )
            + ")$"
            for at, phrase in enumerate(WISHES)
        )
    )


def found(match: re.Match[str], group: str) -> str:
    """The text of a group that is numbered by the phrase it stands in."""
    named = match.groupdict().items()
    return next(text for name, text in named if name.startswith(f"{group}_") and text is not None)


@cache
def wanted_by_wish() -> dict[str, Wanted]:
    """Every wish as it is said ("a lantern", "to see the sea") and what it is."""
    things: dict[str, Wanted] = {}
    for thing in THINGS:
        things[("an " if thing.word[0] in "aeiou" else "a ") + thing.word] = thing
    return things | {one.phrase: one for one in (*DEEDS, *SIGHTS)}


def reason(wanted: Wanted, place: str) -> re.Pattern[str]:
    """Why somebody wants this."""
    slots = {"the_place": f"the {place}"}
    return re.compile("|".join(f"(?:{pattern(why, slots)})" for why in wanted.why), re.IGNORECASE)


def ending(wanted: Wanted, hero: str, others: list[str], place: str) -> re.Pattern[str]:
    """The last paragraph: what came of the wish (group then), and a farewell."""
    friend = f"(?:{'|'.join(others)})"
    the_want = friend if isinstance(wanted, Deed) else f"the {wanted.word}"
    slots = {"H": hero, "F": friend, "the_place": f"the {place}", "the_want": the_want}
    slots["then"] = "(?P<then>" + "|".join(pattern(one, slots) for one in wanted.then) + ")"
    farewell = "|".join(pattern(one, slots) for one in FAREWELLS)
    return re.compile(f"{slots['then']} (?:{farewell})")


def later_name(first: str) -> str:
    """What a place is called once it is known."""
    return next(place.later for place in PLACES if place.first == first)


def is_known(word: str) -> bool:
    """True for a word of the phrase tables."""
    return word.lower() in known_words()
