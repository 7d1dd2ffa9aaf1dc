"""Which session another may begin with: the one whose text agrees with its prompt for longest.

Texts are compared token by token, so that no chance agreement of hashes can mix two of them. Knows
nothing of where they are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from manyhands.domain.model_spec import ModelSpec

SHARED_TOKENS = 64
"""Beginnings are shared in multiples of this: whole pages, which nobody has to copy."""

NameT = TypeVar("NameT")


def longest_beginning(
    prompt: Sequence[int], texts: Iterable[tuple[NameT, Sequence[int]]]
) -> tuple[NameT | None, int]:
    """The text that agrees with `prompt` for longest, the first of equals, and for how many tokens.

    The last token of the prompt is always left to be run: what follows it is what is asked for.
    """
    best: NameT | None = None
    longest = 0
    for name, text in texts:
        most = min(len(prompt) - 1, len(text))
        at = longest
        if list(prompt[:at]) != list(text[:at]):
            continue
        while at + SHARED_TOKENS <= most and _agree(prompt, text, at):
            at += SHARED_TOKENS
        if at > longest:
            best, longest = name, at
    return best, longest


def may_share(spec: ModelSpec, one_limit: int, other_limit: int) -> bool:
    """False where no memory is kept, where a library keeps it in forms of its own, where a prompt
    is read as a whole, and between lengths at which rotary frequencies change.
    """
    if not spec.blocks or not spec.keeps_memory or spec.source:
        return False
    ropes = [block.attention.rope for block in spec.blocks]
    switches = {rope.switch_at for rope in ropes if rope is not None and rope.switch_at is not None}
    return all((one_limit > switch) == (other_limit > switch) for switch in switches)


def _agree(prompt: Sequence[int], text: Sequence[int], at: int) -> bool:
    return list(prompt[at : at + SHARED_TOKENS]) == list(text[at : at + SHARED_TOKENS])
