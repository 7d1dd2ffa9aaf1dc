"""From a prompt's tokens to the answer's tokens, one by one, with drafts where somebody drafts.

Draws depend on (seed, sample, position) only, so drafts change the speed and never the text.
Knows nothing of text: see `node/answer`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from manyhands.domain.work import Result, Want
from manyhands.errors import UserError
from manyhands.node.session import Session

Draft = Callable[[Sequence[int], int], Sequence[int]]
"""(tokens so far, how many at most) -> guesses of the tokens that follow."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the answer; log-probabilities as far as they were wanted."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def no_draft(tokens: Sequence[int], count: int) -> Sequence[int]:
    """Guess nothing."""
    del tokens, count
    return ()


async def speak(
    session: Session,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    end_tokens: frozenset[int] = frozenset(),
    want: Want | None = None,
    draft: Draft = no_draft,
    draft_tokens: int = 0,
    held: int = 0,
) -> AsyncIterator[Token]:
    """Feed the prompt, then yield tokens until an end token (not yielded) or `max_tokens`.

    The session was opened with the first `held` tokens of the prompt. With `draft`, each step
    carries up to `draft_tokens` guesses; the head's own draws decide how many of them were right.
    Raises UserError for an empty prompt, and what Session.run raises.
    """
    if not prompt:
        raise UserError("the prompt is empty; give at least one token")
    asked = want or Want()
    text = [*prompt]
    token = _tokens(await session.run(prompt[held:], replace(asked, rows="last")))[0]
    spoken = 0
    while spoken < max_tokens and token.id not in end_tokens:
        yield token
        text.append(token.id)
        spoken += 1
        room = min(max_tokens - spoken, session.terms.context_limit - len(text) + 1)
        if room <= 0:
            return
        guesses = list(draft(text, min(draft_tokens, room - 1)))[: room - 1]
        start = session.length
        results = await session.run([token.id, *guesses], replace(asked, rows="all"))
        drawn = _tokens(results)
        right = 0
        while right < len(guesses) and drawn[right].id == guesses[right]:
            right += 1
        if right < len(guesses):
            session.rewind(start + 1 + right)
        for number, token in enumerate(drawn[:right]):
            if token.id in end_tokens:
                session.rewind(start + 1 + number)
                return
            yield token
            text.append(token.id)
            spoken += 1
        token = drawn[right]


def _tokens(results: Sequence[Result]) -> list[Token]:
    """The drawn tokens of all rows, in order."""
    tokens: list[Token] = []
    for result in results:
        for row, token in enumerate(result.tokens):
            tokens.append(
                Token(
                    token,
                    result.chosen_logprob[row] if result.chosen_logprob else None,
                    tuple(zip(result.top_ids[row], result.top_logprobs[row], strict=True))
                    if result.top_ids
                    else (),
                )
            )
    return tokens
