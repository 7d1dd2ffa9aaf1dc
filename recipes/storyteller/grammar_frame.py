"""How every story begins and ends: openings, wishes, farewells; phrase tables only.

A beat is a tuple of phrases of which one is told; `Maybe` is a beat that short stories leave out.
"""

from __future__ import annotations

from typing import NamedTuple


class Maybe(NamedTuple):
    """A beat told about half the time, and never in the shortest stories."""

    phrases: tuple[str, ...]


Beat = tuple[str, ...] | Maybe

OPENINGS: tuple[str, ...] = (
    "Once upon a time there was {a_trait_kind} called {H}, who lived {in_place}.",
    "Once upon a time, {in_place}, there lived {a_trait_kind} called {H}.",
    "Once upon a time {a_trait_kind} called {H} lived {in_place}.",
    "Once, {in_place}, there lived {a_trait_kind} called {H}.",
    "{In_place} there lived {a_trait_kind} called {H}.",
    "There was once {a_trait_kind} called {H}, who lived {in_place}.",
    "Long ago, {in_place}, there lived {a_trait_kind} called {H}.",
    "This is the story of {a_trait_kind} called {H}, who lived {in_place}.",
    "{In_place}, not so long ago, lived {a_trait_kind} called {H}.",
    "Do you know the story of {H}? {He} was {a_trait_kind} and lived {in_place}.",
)

WISHES: tuple[str, ...] = (
    "More than anything, {H} wanted {wish}, because {why}.",
    "{H} wanted {wish}, for {why}.",
    "There was one thing {H} wanted, and that was {wish}, because {why}.",
    "One day {H} wanted {wish}, because {why}.",
    "All winter long {H} had wanted {wish}, because {why}.",
    "What {H} wanted most of all was {wish}, because {why}.",
    "It began one Monday. {H} wanted {wish}, because {why}.",
    "If you had asked {H}, {he} would have said that {he} wanted {wish}, because {why}.",
    "Everybody wants something, and {H} wanted {wish}, because {why}.",
    "{Why}, and so {H} wanted {wish}.",
)

FAREWELLS: tuple[str, ...] = (
    "And that is the story of {H} and {the_want}.",
    "And so {H} went to bed happy, and {the_place} was quiet.",
    "From that day on, {H} and {F} were the best of friends.",
    "And if you ever come to {the_place}, {H} will tell you about it too.",
    "And {H} never forgot what {F} had done.",
    "So it was good in the end, and {H} slept well.",
    "And when somebody else was in trouble, it was {H} who came to help.",
    "And {F} laughed, and {H} laughed, and that is where the story stops.",
    "From that day on, {H} always saved the last biscuit for {F}.",
    "And far beyond {the_place} they still talk about {H}.",
    "And so all was well, and {H} and {F} had pancakes.",
    "And when people ask how it happened, {H} only smiles.",
    "And that evening {H} and {F} sat on the step and watched the stars come out.",
    "So {H} got what {he} wanted, and a friend as well.",
    "And to this day, {F} comes to supper at the house of {H} every Sunday.",
    "And if they have not moved away, {H} and {F} still live there now.",
    "So {H} had learned something, and it was worth more than gold.",
    "And both of them, {H} and {F}, lived happily for a long time.",
)

THANKS: tuple[str, ...] = (
    '"Thank you, {F}," said {H}. "{Gladness}"',
    '"How can I thank you?" asked {H}. "{Modesty}" said {F}.',
    "{H} thanked {F} three times, and then once more.",
    '"We did it!" cried {H}, and {F} clapped.',
    '"{Modesty}" said {F}, and {fhe} meant it.',
    "{F} only smiled, for {fhe} was not one for speeches.",
)

GLADNESS: tuple[str, ...] = (
    "I could not have done it alone.",
    "Now I owe you a supper.",
    "You are a good friend.",
    "Two heads are better than one.",
    "I owe you a basket of cherries.",
    "What a day this was!",
    "You are cleverer than an owl.",
    "Come and have some soup.",
    "I shall remember this.",
    "Next time I will help you.",
)
MODESTY: tuple[str, ...] = (
    "It was nothing,",
    "Come to tea on Sunday,",
    "You did most of it yourself,",
    "Just help the next one,",
    "Friends do not count favours,",
    "It was the best fun in weeks,",
    "A smile will do,",
    "Save me a slice of cake,",
)
