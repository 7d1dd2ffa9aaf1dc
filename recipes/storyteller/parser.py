"""Says whether a text is a story of this grammar, and if not, why not.

What is checked, in this order; each can fail by itself:

1. Form: four paragraphs; every sentence ends in `.`, `!` or `?` (a quotation mark may follow).
2. Opening: the first sentence is one of the grammar's openings; it says who, of what kind, where.
3. Wish: the first paragraph ends with a wish of the grammar, and the reason belongs to that wish.
4. Words: every word is one of the phrase tables or a name of the cast. Nobody but the hero and
   those introduced by "called" is named, everyone is introduced once and has a name of their own,
   and no name is used before its introduction. So a misspelt name is not accepted.
5. Capitals: only names, days, "I" and the beginnings of sentences and speeches have one, and every
   sentence has one.
6. Speech: quotation marks pair up within a paragraph; a speech is not empty and ends in `,`, `.`,
   `!` or `?`; after a comma somebody says it (said, asked, cried).
7. Pronouns: whatever is told of the hero while nobody else is there, and in the ending, is told
   with one pronoun.
8. The wish in the middle: its word occurs between beginning and ending.
9. Ending: the last paragraph is one of the endings that belong to the wish, names the hero and the
   place of the opening, and closes with a farewell of the grammar.

It does not check that the turns in the middle follow from each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from recipes.storyteller.forms import (
    NAME,
    PRONOUNS,
    ending,
    found,
    is_known,
    later_name,
    opening,
    reason,
    wanted_by_wish,
    wishes,
)

PROPER = frozenset({"I", "Monday", "Sunday", "Tuesdays", "Friday"})
SAYING = re.compile(rf" (?:said|asked|cried) {NAME}\b| (?:he|she) (?:said|asked|cried)\b")
_SPEECH = re.compile(r'"([^"]*)"')
_INTRODUCED = re.compile(rf"\bcalled ({NAME})")
_TOKEN = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text is about, as far as it could be read, and every fault found in it."""

    faults: tuple[str, ...]
    hero: str = ""
    kind: str = ""
    wish: str = ""
    others: tuple[str, ...] = ()


def accepts(text: str) -> bool:
    """True for a story that passes every check."""
    return not parse(text).faults


def parse(text: str) -> Parsed:
    """Read a story; the checks are those this file's docstring lists."""
    paragraphs = text.split("\n\n")
    faults = list(_form(paragraphs))
    begun = opening().match(text)
    if begun is None:
        return Parsed(
            (
                *faults,
                "it does not begin as a story begins",
            )
        )
    hero, kind = found(begun, "hero"), found(begun, "kind")
    first = found(begun, "place")
    place = later_name(first[0].lower() + first[1:])
    others = [name for name in _INTRODUCED.findall(text) if name != hero]
    faults += _names(text, hero, others)
    faults += [fault for paragraph in paragraphs for fault in _speech(paragraph)]
    wished = wishes(hero).search(paragraphs[0])
    if wished is None or (wanted := wanted_by_wish().get(found(wished, "wish"))) is None:
        return Parsed((*faults, "there is no wish"), hero, kind, "", tuple(others))
    wish = found(wished, "wish")
    if reason(wanted, place).fullmatch(found(wished, "why")) is None:
        faults.append(f"{found(wished, 'why')!r} is no reason to want {wish!r}")
    if len(paragraphs) < 3 or wanted.word not in _words(" ".join(paragraphs[1:-1])):
        faults.append(f"{wanted.word!r} is forgotten in the middle")
    ended = ending(wanted, hero, others or [NAME], place).fullmatch(paragraphs[-1])
    if ended is None:
        faults.append(f"the ending is none of {wish!r}")
    faults += _pronouns(text, others, "" if ended is None else ended["then"])
    return Parsed(tuple(faults), hero, kind, wish, tuple(others))


def _form(paragraphs: list[str]) -> Iterator[str]:
    if len(paragraphs) != 4:
        yield f"{len(paragraphs)} paragraphs instead of four"
    for paragraph in paragraphs:
        if not paragraph or paragraph != paragraph.strip() or "\n" in paragraph:
            yield "a paragraph is empty or has loose space"
        elif not paragraph.endswith((".", "!", "?", '."', '!"', '?"')):
            yield "a paragraph breaks off"


def _names(text: str, hero: str, others: list[str]) -> Iterator[str]:
    cast = [hero, *others]
    if len(set(cast)) != len(cast):
        yield "somebody is introduced twice"
    if not 1 <= len(others) <= 2:
        yield f"{len(others)} others are introduced"
    seen: set[str] = set()
    for match in _TOKEN.finditer(text):
        word, before = match[0], text[: match.start()].rstrip(" \n")
        starts = not before or before.endswith((".", "!", "?", '"', ":"))
        if word in cast:
            introduced = word == hero or word in seen or before.endswith(" called")
            seen.add(word)
            if not introduced:
                yield f"{word!r} is named before the introduction"
        elif word not in PROPER and not is_known(word):
            yield f"{word!r} is no word or name of this story"
        elif word[0].isupper() and word not in PROPER and not starts:
            yield f"{word!r} has a capital"
        elif word[0].islower() and before.endswith((".", "!", "?")):
            yield f"{word!r} begins a sentence"


def _speech(paragraph: str) -> Iterator[str]:
    if paragraph.count('"') % 2:
        yield "a speech does not end"
    for match in _SPEECH.finditer(paragraph):
        spoken, after = match[1], paragraph[match.end() :]
        if not spoken.endswith((",", ".", "!", "?")) or not spoken[0].isalpha():
            yield f"a speech is cut: {spoken!r}"
        elif spoken.endswith(",") and not SAYING.match(after):
            yield f"nobody says {spoken!r}"


def _pronouns(text: str, others: list[str], then: str) -> Iterator[str]:
    alone = text.split(f"called {others[0]}")[0] if others else text
    words = set(_words(_SPEECH.sub("", alone))) | set(_words(then))
    if all(words & forms for forms in PRONOUNS.values()):
        yield "the hero is he and she"


def _words(text: str) -> list[str]:
    return [word.lower() for word in _TOKEN.findall(text)]
