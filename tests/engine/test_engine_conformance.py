"""What every engine promises beside its numbers: memory rules, typed errors, nothing half done.

A new engine adds its `load` to engine_cases.LOADS and is held to all of this.
"""

import numpy as np
import pytest

import tiny
from engine_cases import LOADS, session
from manyhands.domain.device import Device
from manyhands.domain.sizes import span_kv_elements
from manyhands.domain.span import Span
from manyhands.engine.engine import Chunk
from manyhands.errors import (
    BadSetting,
    ContextOverflow,
    MemoryFull,
    ResourceError,
    SessionUnknown,
    UserError,
)
from manyhands.store.checkpoint import Checkpoint

A, B, C = session(1), session(2), session(3)
LIMIT = 256


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return Checkpoint.open(tiny.make("llama-tied", tmp_path_factory.mktemp("model")))


@pytest.fixture(params=LOADS)
def load(request, checkpoint):
    def loaded(span=None, kv_bytes=1 << 24, **options):
        span = span or checkpoint.spec.span
        return LOADS[request.param](
            checkpoint.spec, span, checkpoint.read, kv_bytes=kv_bytes, **options
        )

    return loaded


def chunk(name, position, tokens, hidden=None, rows=None):
    return Chunk(
        name, position, tuple(tokens), hidden, (len(tokens) - 1,) if rows is None else rows
    )


def token_bytes(engine, checkpoint):
    """Both engines keep keys and values in four bytes in float32."""
    return 4 * span_kv_elements(checkpoint.spec, engine.span)


class TestEngine:
    def test_a_step_gives_the_wanted_rows_only_but_all_hidden_rows_below_the_head(self, load):
        whole, body = load(), load(Span(0, 3))
        for engine in (whole, body):
            engine.open(A, LIMIT)
        out = whole.step([chunk(A, 0, [3, 4, 5, 6], rows=(3, 1))])[0]
        assert out.scores.shape == (2, 320)
        assert out.hidden.shape == (2, 64)
        assert out.scores.dtype == out.hidden.dtype == np.float32
        every = whole.step([chunk(A, 0, [3, 4, 5, 6], rows=(0, 1, 2, 3))])[0]
        turned = whole.step([chunk(A, 0, [3, 4, 5, 6], rows=(3, 2, 1, 0))])[0]
        np.testing.assert_array_equal(turned.scores, every.scores[::-1])
        np.testing.assert_allclose(out.scores, every.scores[[3, 1]], atol=1e-5)
        below = body.step([chunk(A, 0, [3, 4, 5, 6], rows=(3,))])[0]
        assert below.hidden.shape == (4, 64)
        assert below.scores is None

    def test_no_rows_may_be_wanted(self, load):
        engine = load()
        engine.open(A, LIMIT)
        assert engine.step([chunk(A, 0, [3, 4], rows=())])[0].scores.shape == (0, 320)
        assert engine.length(A) == 2

    def test_hidden_of_the_head_is_what_the_scores_were_made_from(self, load, checkpoint):
        engine = load()
        out = engine.forward([3, 4, 5], None)
        stored = checkpoint.read(checkpoint.spec.layers[-1].tensors["head"])
        matrix = np.frombuffer(stored.data, np.float32).reshape(stored.shape)
        np.testing.assert_allclose(out.hidden @ matrix.T, out.scores, atol=1e-4)

    def test_a_tied_head_shares_its_embedding_when_both_are_in_the_span(self, load, checkpoint):
        whole = load().weight_bytes
        parts = load(Span(0, 4)).weight_bytes + load(Span(4, 8)).weight_bytes
        assert parts - whole == 4 * 320 * 64
        assert whole == checkpoint.stored_bytes(checkpoint.spec.span)

    def test_a_repeated_step_is_harmless(self, load):
        engine = load()
        engine.open(A, LIMIT)
        engine.step([chunk(A, 0, range(10, 30))])
        once = engine.step([chunk(A, 20, [7])])[0].scores
        again = engine.step([chunk(A, 20, [7])])[0].scores
        np.testing.assert_array_equal(once, again)
        assert engine.length(A) == 21

    def test_an_input_is_never_written_to_and_may_be_read_only(self, load):
        engine = load(Span(2, 4))
        engine.open(A, LIMIT)
        hidden = np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64)
        before = hidden.copy()
        hidden.flags.writeable = False
        engine.step([chunk(A, 0, [1, 2, 3], hidden)])
        engine.forward([1, 2, 3], hidden)
        np.testing.assert_array_equal(hidden, before)

    def test_an_output_is_not_changed_by_later_steps(self, load):
        engine = load(Span(0, 3))
        engine.open(A, LIMIT)
        first = engine.step([chunk(A, 0, [3, 4])])[0].hidden
        kept = first.copy()
        engine.step([chunk(A, 2, [9])])
        np.testing.assert_array_equal(first, kept)

    def test_a_fork_goes_on_as_its_parent_would_and_leaves_it_alone(self, load):
        engine = load()
        engine.open(A, LIMIT)
        engine.step([chunk(A, 0, range(10, 90))])
        engine.open(B, LIMIT, A, 70)
        assert engine.length(B) == 70
        engine.step([chunk(B, 70, range(100, 110))])
        engine.open(C, LIMIT)
        engine.step([chunk(C, 0, [*range(10, 80), *range(100, 110)])])
        ours, fresh = engine.step([chunk(B, 80, [5]), chunk(C, 80, [5])])
        np.testing.assert_allclose(ours.scores, fresh.scores, atol=1e-4)
        parent = engine.step([chunk(A, 80, [5])])[0].scores
        engine.close(B)
        np.testing.assert_array_equal(engine.step([chunk(A, 80, [5])])[0].scores, parent)

    def test_a_session_takes_all_its_pages_when_it_begins_and_gives_them_back(
        self, load, checkpoint
    ):
        engine = load()
        free = engine.room()
        engine.open(A, 65)
        assert engine.room() == free - 128 * token_bytes(engine, checkpoint)
        engine.step([chunk(A, 0, range(65))])
        assert engine.room() == free - 128 * token_bytes(engine, checkpoint)
        engine.truncate(A, 3)
        assert engine.length(A) == 3
        engine.truncate(A, 50)
        assert engine.length(A) == 3
        engine.trim(A)
        assert engine.room() == free - 64 * token_bytes(engine, checkpoint)
        with pytest.raises(ContextOverflow, match="limit is 3"):
            engine.step([chunk(A, 3, [1])])
        engine.close(A)
        engine.close(A)
        assert engine.room() == free

    def test_who_does_not_fit_is_refused_before_anything_is_computed(self, load, checkpoint):
        each = 128 * token_bytes(load(kv_bytes=1), checkpoint)
        engine = load(kv_bytes=2 * each)
        for name in (A, B):
            engine.open(name, 128)
        with pytest.raises(MemoryFull, match=r"0 of .* are free.*kv_bytes"):
            engine.open(C, 1)
        with pytest.raises(ResourceError, match="256 tokens would fit") as never:
            engine.open(C, 257)
        assert not isinstance(never.value, MemoryFull)
        engine.step([chunk(A, 0, range(128)), chunk(B, 0, range(128))])  # what began can end
        engine.close(A)
        engine.open(C, 128)
        assert engine.room() == 0

    def test_a_shared_beginning_counts_once_and_changes_no_bit(self, load, checkpoint):
        engine, alone, token = load(), load(), token_bytes(load(), checkpoint)
        prompt = [7 * n % 90 for n in range(130)]
        for one in (engine, alone):
            one.open(A, 192)
            one.step([chunk(A, 0, prompt)])
        free = engine.room()
        engine.open(B, 192, A, 130)
        assert engine.room() == free - 64 * token
        alone.open(B, 192)
        alone.step([chunk(B, 0, prompt)])
        for position in (130, 131, 132):
            ours = engine.step([chunk(B, position, [position % 90])])[0]
            theirs = alone.step([chunk(B, position, [position % 90])])[0]
            np.testing.assert_array_equal(ours.scores, theirs.scores)
        engine.close(A)
        assert engine.room() == free
        again = engine.step([chunk(B, 130, [5])])[0].scores
        np.testing.assert_array_equal(again, alone.step([chunk(B, 130, [5])])[0].scores)
        after = engine.step([chunk(B, 60, [5])])[0].scores  # writes over what it shared
        np.testing.assert_array_equal(after, alone.step([chunk(B, 60, [5])])[0].scores)
        engine.close(B)
        assert engine.room() == free + 192 * token

    def test_a_session_holds_its_limit_and_not_one_token_more(self, load):
        engine = load()
        engine.open(A, 70)
        engine.step([chunk(A, 0, range(70))])
        with pytest.raises(ContextOverflow, match="limit is 70"):
            engine.step([chunk(A, 70, [1])])
        assert engine.length(A) == 70

    def test_more_than_the_models_context_is_refused(self, load, checkpoint):
        engine, context = load(), checkpoint.spec.context
        engine.open(A, context)
        with pytest.raises(ContextOverflow):
            engine.open(B, context + 1)
        with pytest.raises(ContextOverflow):
            engine.forward([1] * (context + 1), None)

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (lambda: chunk(C, 0, [1]), SessionUnknown),
            (lambda: chunk(A, 3, [1]), UserError),
            (lambda: chunk(A, -1, [1]), UserError),
            (lambda: chunk(A, 1, []), UserError),
            (lambda: chunk(A, 1, [320]), UserError),
            (lambda: chunk(A, 1, [-1]), UserError),
            (lambda: chunk(A, 1, [1], rows=(1,)), UserError),
            (lambda: chunk(A, 1, [1], rows=(-1,)), UserError),
            (lambda: chunk(A, 1, [1], np.zeros((1, 64), np.float32)), UserError),
            (lambda: chunk(B, 1, [1]), UserError),
            (lambda: chunk(A, 1, range(LIMIT)), ContextOverflow),
        ],
    )
    def test_a_bad_step_is_a_typed_error_and_changes_nobodys_memory(self, load, fault, error):
        engine = load()
        engine.open(A, LIMIT)
        engine.open(B, LIMIT)
        engine.step([chunk(A, 0, [3, 4]), chunk(B, 0, [3, 4])])
        free = engine.room()
        expected = engine.step([chunk(B, 2, [5])])[0].scores
        with pytest.raises(error):
            engine.step([chunk(B, 0, [9, 9, 9, 9]), fault()])
        assert (engine.length(A), engine.length(B), engine.room()) == (2, 3, free)
        again = engine.step([chunk(B, 2, [5])])[0].scores
        np.testing.assert_array_equal(again, expected)

    @pytest.mark.parametrize(
        "hidden",
        [
            None,
            np.zeros((1, 63), np.float32),
            np.zeros((2, 64), np.float32),
            np.zeros((1, 64), np.float64),
        ],
    )
    def test_a_later_stage_needs_hidden_states_of_the_right_form(self, load, hidden):
        engine = load(Span(1, 3))
        engine.open(A, LIMIT)
        with pytest.raises(UserError, match=r"hidden states|needs"):
            engine.step([chunk(A, 0, [1], hidden)])
        with pytest.raises(UserError):
            engine.forward([1], hidden)
        assert engine.length(A) == 0

    def test_opening_what_cannot_be_opened_is_a_typed_error(self, load):
        engine = load()
        engine.open(A, LIMIT)
        engine.step([chunk(A, 0, [1, 2, 3])])
        with pytest.raises(UserError, match="open already"):
            engine.open(A, LIMIT)
        with pytest.raises(SessionUnknown):
            engine.open(B, LIMIT, C, 1)
        with pytest.raises(UserError, match="holds 3"):
            engine.open(B, LIMIT, A, 4)
        with pytest.raises(ContextOverflow):
            engine.open(B, 2, A, 3)
        with pytest.raises(UserError):
            engine.open(B, 0)
        with pytest.raises(SessionUnknown):
            engine.length(B)
        with pytest.raises(SessionUnknown):
            engine.truncate(B, 0)

    def test_an_empty_batch_is_no_work(self, load):
        assert load().step([]) == []

    def test_a_span_outside_the_model_and_unknown_options_are_refused(self, load):
        with pytest.raises(UserError, match="outside"):
            load(Span(0, 99))
        with pytest.raises(BadSetting, match="colour"):
            load(colour="blue")

    def test_a_span_of_one_layer_works_wherever_it_stands(self, load, checkpoint):
        hidden = None
        for place in range(len(checkpoint.spec.layers)):
            out = load(Span(place, place + 1)).forward([3, 4, 5], hidden)
            hidden = out.hidden
        np.testing.assert_allclose(out.scores, load().forward([3, 4, 5], None).scores, atol=1e-4)

    def test_a_session_may_run_a_part_of_the_layers_that_are_held(self, load, checkpoint):
        """What a stand-in does that holds more than the stage it takes over."""
        whole, alone, spec = load(), load(Span(2, 4)), checkpoint.spec
        free, cuts = whole.room(), [Span(0, 2), Span(2, 4), Span(4, len(spec.layers))]
        for name, span in zip((A, B, C), cuts, strict=True):
            whole.open(name, LIMIT, span=span)
        alone.open(B, LIMIT)
        first = whole.step([chunk(A, 0, [3, 4, 5])])[0].hidden
        middle = whole.step([chunk(B, 0, [3, 4, 5], first)])[0].hidden
        np.testing.assert_array_equal(middle, alone.step([chunk(B, 0, [3, 4, 5], first)])[0].hidden)
        last = whole.step([chunk(C, 0, [3, 4, 5], middle, (0, 1, 2))])[0]
        np.testing.assert_allclose(last.scores, whole.forward([3, 4, 5], None).scores, atol=1e-4)
        used = (free - whole.room()) // LIMIT
        assert used == token_bytes(whole, checkpoint)

    def test_sessions_over_different_layers_may_share_a_batch(self, load):
        engine, alone = load(), load()
        hidden = np.linspace(-1, 1, 2 * 64, dtype=np.float32).reshape(2, 64)
        for each in (engine, alone):
            each.open(A, LIMIT)
            each.open(B, LIMIT, span=Span(3, 8))
            each.open(C, LIMIT)
        batch = [chunk(A, 0, [3, 4]), chunk(B, 0, [5, 6], hidden), chunk(C, 0, [7])]
        for ours, one in zip(engine.step(batch), batch, strict=True):
            np.testing.assert_allclose(ours.scores, alone.step([one])[0].scores, atol=1e-4)

    def test_a_fork_over_other_layers_and_layers_not_held_are_refused(self, load):
        engine = load(Span(1, 5))
        engine.open(A, LIMIT)
        engine.step([chunk(A, 0, [1], np.zeros((1, 64), np.float32))])
        with pytest.raises(UserError, match="cannot share"):
            engine.open(B, LIMIT, A, 1, Span(1, 3))
        with pytest.raises(UserError, match="not held"):
            engine.open(B, LIMIT, span=Span(0, 3))

    def test_cost_follows_from_the_measured_device(self, load):
        assert load().cost_s([chunk(A, 0, [1])]) == 0.0
        engine = load(device=Device("cpu", 2**34, 1e9, 1e12))
        one = engine.cost_s([chunk(A, 0, [1])])
        assert 0.5 < one / (engine.weight_bytes / 1e9) < 1.2
        assert engine.cost_s([chunk(A, 500, [1])]) > one
        assert engine.cost_s([chunk(A, 0, [1] * 5000)]) > 5 * one
        assert engine.cost_s([]) == 0.0
