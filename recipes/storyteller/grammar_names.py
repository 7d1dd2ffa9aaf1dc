"""Makes up names of several syllables: tens of millions of them, none from a list."""

from __future__ import annotations

from random import Random

STARTS = (
    "B", "Br", "Bl", "C", "Ch", "D", "Dr", "F", "Fl", "Fr", "G", "Gr", "H", "J", "K", "L", "M", "N",
    "P", "Pr", "Qu", "R", "S", "Sh", "St", "T", "Th", "Tr", "V", "W", "Wh", "Y", "Z", "B", "D", "L",
    "M", "N", "P", "R", "S", "T", "", "",
)  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u") * 5 + ("ai", "ea", "oo", "ee", "ie", "ou", "au", "y")
MIDDLES = (
    "b", "bb", "br", "ck", "d", "dd", "dr", "f", "ff", "g", "gl", "l", "ll", "ld", "lm", "lv", "m",
    "mb", "mm", "mp", "n", "nd", "nk", "nn", "nt", "p", "pp", "r", "rb", "rd", "rl", "rn", "rr",
    "s", "sk", "ss", "st", "t", "tt", "th", "v", "x", "z", "zz", "ph", "b", "d", "l", "m", "n", "r",
    "s", "t", "v", "c", "lc", "j", "k",
)  # fmt: skip
ENDS = (
    "",
    "",
    "",
    "",
    "l",
    "n",
    "r",
    "s",
    "k",
    "t",
    "m",
    "ck",
    "ll",
    "nd",
    "sh",
    "th",
    "lda",
    "bo",
)
SHORT_ENDS = ("b", "d", "ff", "g", "l", "m", "n", "p", "ss", "t", "x", "zz", "ck", "nk", "ll", "sh")


def make_name(rng: Random) -> str:
    """One capitalised made-up name of 2 to 11 letters, mostly of two or three syllables."""
    syllables = rng.choices((1, 2, 3), (1, 6, 3))[0]
    name = rng.choice(STARTS) + rng.choice(VOWELS)
    if syllables == 1:
        return (name + rng.choice(SHORT_ENDS)).capitalize()
    for _ in range(syllables - 1):
        name += rng.choice(MIDDLES) + rng.choice(VOWELS)
    return (name + rng.choice(ENDS)).capitalize()[:11]
