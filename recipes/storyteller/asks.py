"""The many ways of asking for a story: by name, kind, want or place, or by nothing at all."""

from __future__ import annotations

from random import Random

from recipes.storyteller.grammar import Story, with_article

JUST_ASKED: tuple[str, ...] = (
    "Tell me a story.", "Tell me a story", "tell me a story", "Please tell me a story.",
    "A story, please.", "Can you tell me a story?", "I cannot sleep. Tell me a story.",
    "Tell me a bedtime story.", "Another one, please.", "One more story!", "Hello!", "Hello", "Hi",
    "hi", "What can you do?", "Who are you?", "Tell me something.", "Write a story.", "Go on.",
    "Make up a story for me.", "I would like to hear a story.", "Once upon a time",
)  # fmt: skip

FRAMES: tuple[str, ...] = (
    "Tell me a story about {about}.",
    "Tell me a story about {about}.",
    "Tell me a story about {about}",
    "tell me a story about {about}",
    "Please tell me a story about {about}.",
    "Can you tell me a story about {about}?",
    "Could you tell a story about {about}, please?",
    "I would like a story about {about}.",
    "I want to hear about {about}.",
    "Write a story about {about}.",
    "Write a short story about {about}",
    "Make up a tale about {about}.",
    "A story about {about}, please.",
    "a story about {about}",
    "Story about {about}",
    "Tell me about {about}.",
    "Do you know a story about {about}?",
    "Once there was {about}. What happened?",
    "{about}",
)


WAYS = (30, 28, 8, 5, 8, 8, 8, 5)
EXACT_WAYS = (12, 36, 8, 8, 10, 12, 6, 8)
"""How often each way of saying who comes up."""


def ask_for(story: Story, rng: Random, exact: bool = False) -> str:
    """A request that this story answers; an `exact` one more often says what and what for."""
    if rng.random() < (0.05 if exact else 0.1):
        return rng.choice(JUST_ASKED)
    about = _who(story, rng, EXACT_WAYS if exact else WAYS)
    if rng.random() < (0.6 if exact else 0.35):
        about += rng.choice((" who wants {wish}", " who wanted {wish}", " and {word}")).format(
            wish=story.wish, word=_wanted(story)
        )
    if rng.random() < 0.15:
        about += " " + story.place.first
    return rng.choice(FRAMES).format(about=about)


def _who(story: Story, rng: Random, ways: tuple[int, ...]) -> str:
    hero, friend = story.cast[0], story.cast[1]
    kind = with_article(hero.kind.noun)
    described = with_article(f"{hero.trait} {hero.kind.noun}")
    match rng.choices(range(8), ways)[0]:
        case 0:
            return hero.name
        case 1:
            return f"{kind} called {hero.name}"
        case 2:
            return f"{kind} named {hero.name}"
        case 3:
            return f"{described} called {hero.name}"
        case 4:
            return f"{hero.name} the {hero.kind.noun}"
        case 5:
            return kind
        case 6:
            return f"{hero.name} and {friend.name}"
        case _:
            return f"somebody called {hero.name}"


def _wanted(story: Story) -> str:
    """What stands after "and": "a lantern", "learning to swim" or "the sea"."""
    if story.wish.startswith("to learn "):
        return story.wish.replace("to learn", "learning", 1)
    return story.wish.removeprefix("to see ")
