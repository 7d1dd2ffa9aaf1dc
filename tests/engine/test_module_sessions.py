"""Bytes of sessions are counted before anything is computed; a refusal changes nothing."""

import pytest
import torch

import tiny
from engine_cases import session
from manyhands.domain.sizes import span_kv_elements
from manyhands.domain.span import Span
from manyhands.engine.module_sessions import Sessions
from manyhands.errors import ContextOverflow, ResourceError, SessionUnknown, UserError
from manyhands.families.family import model_spec

A, B, C = (session(number) for number in range(3))
CONFIG = tiny.config("llama")
SPEC = model_spec({**CONFIG.to_dict(), "architectures": ["LlamaForCausalLM"]})
WHOLE, SOME = SPEC.span, Span(0, 3)
TOKEN = 4 * span_kv_elements(SPEC, WHOLE)
BUDGET = 20 * TOKEN


@pytest.fixture
def sessions():
    made = Sessions(SPEC, CONFIG, 4, BUDGET)
    made.open(A, WHOLE, 64, None, 0)
    return made


def say(sessions, name, tokens):
    """A step of so many tokens, as the engine takes it."""
    memory = sessions.named(name).memory
    sessions.check_room([(name, memory.length + tokens)])
    sessions.reserve(sessions.named(name), memory.length + tokens)
    rows = torch.zeros(1, CONFIG.num_key_value_heads, tokens, CONFIG.head_dim)
    for place in range(CONFIG.num_hidden_layers):
        memory.cache.update(rows, rows, place)
    memory.grown(tokens)


def test_tokens_are_counted_and_given_back(sessions):
    say(sessions, A, 12)
    assert sessions.room() == BUDGET - 12 * TOKEN
    sessions.cut(A, 5)  # said again perhaps: what was set aside stays so
    assert sessions.room() == BUDGET - 12 * TOKEN
    say(sessions, A, 7)
    assert sessions.room() == BUDGET - 12 * TOKEN
    sessions.cut(A, 4)
    sessions.trim(A)
    assert sessions.room() == BUDGET - 4 * TOKEN
    assert sessions.named(A).limit == 4
    sessions.close(A)
    sessions.close(A)
    assert sessions.room() == BUDGET


def test_a_session_over_fewer_layers_costs_less(sessions):
    sessions.open(B, SOME, 64, None, 0)
    say(sessions, B, 10)
    assert BUDGET - sessions.room() == 10 * 4 * span_kv_elements(SPEC, SOME) < 10 * TOKEN


def test_several_that_fit_alone_do_not_fit_together(sessions):
    sessions.open(B, WHOLE, 64, None, 0)
    sessions.check_room([(A, 20)])
    sessions.check_room([(A, 10), (B, 10)])
    with pytest.raises(ResourceError, match="2 sessions open"):
        sessions.check_room([(A, 10), (B, 11)])
    assert sessions.room() == BUDGET


def test_a_copy_is_counted_whole_and_no_copy_is_made_without_room(sessions):
    say(sessions, A, 9)
    sessions.open(B, WHOLE, 64, A, 9)
    assert sessions.room() == 2 * TOKEN
    with pytest.raises(ResourceError):
        sessions.open(C, WHOLE, 64, A, 3)
    with pytest.raises(SessionUnknown):
        sessions.named(C)
    sessions.open(C, WHOLE, 64, A, 2)
    assert sessions.room() == 0


@pytest.mark.parametrize(
    ("opening", "error"),
    [
        ((A, WHOLE, 64, None, 0), UserError),  # is open
        ((B, WHOLE, 64, A, 10), UserError),  # more than it holds
        ((B, WHOLE, 64, A, -1), UserError),
        ((B, SOME, 64, A, 2), UserError),  # another span's memory
        ((B, WHOLE, 64, None, 2), UserError),  # of nobody
        ((B, WHOLE, 64, C, 2), SessionUnknown),
        ((B, WHOLE, 1, A, 2), ContextOverflow),
        ((B, WHOLE, 0, None, 0), ContextOverflow),
        ((B, WHOLE, SPEC.context + 1, None, 0), ContextOverflow),
    ],
)
def test_an_opening_that_is_refused_changes_nothing(sessions, opening, error):
    say(sessions, A, 5)
    with pytest.raises(error):
        sessions.open(*opening)
    assert sessions.room() == BUDGET - 5 * TOKEN
    assert sessions.named(A).memory.length == 5
    with pytest.raises(SessionUnknown):
        sessions.named(B)


def test_a_place_below_none_is_refused(sessions):
    with pytest.raises(UserError, match="positions start at 0"):
        sessions.cut(A, -1)
