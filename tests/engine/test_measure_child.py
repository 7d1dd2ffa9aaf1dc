"""What the child of `measure` times: weights that are real to an engine, and settings refused."""

import json

import numpy as np
import pytest

from manyhands.domain.model_spec import TensorSource
from manyhands.domain.span import Span
from manyhands.engine import numpy_blocks
from manyhands.engine.measure_child import Wanted, figures, invented, main, weights_of
from manyhands.engine.weights import read_float32

MATRIX = TensorSource(("m",), (30, 40))


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_invented_weights_are_ordinary_numbers_in_memory_of_their_own(dtype):
    read = weights_of(dtype, 1200)
    one, other = (read_float32(MATRIX, read) for _ in range(2))
    assert not np.shares_memory(one, other)
    assert np.array_equal(one, other)
    assert np.abs(one).max() <= 0.0201
    assert np.count_nonzero(np.abs(one) > 1e-6) > 1190


def test_an_engine_loads_the_invented_model():
    spec = invented(64, 2)
    engine = numpy_blocks.load(spec, Span(1, 3), weights_of("BF16", 64 * 256), kv_bytes=1 << 20)
    assert engine.weight_bytes > 2 * 4 * 3 * 64 * 256


def test_the_figures_are_of_the_engine_asked_for():
    got = figures(Wanted("numpy", "auto", None, 1 << 24))
    assert (got["engine"], got["dtype"], got["bytes_per_number"]) == ("numpy", "fp32", 4.0)
    assert all(got[name] > 0 for name in ("read_bytes_per_s", "flops_per_s", "overhead_s"))


def test_a_setting_refused_is_said_in_json_with_the_exit_status_of_its_kind(capsys):
    wanted = {"engine": "abacus", "dtype": "auto", "threads": None, "weight_bytes": 1}
    assert main([json.dumps(wanted)]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["code"] == "bad_setting"
    assert "abacus" in told["error"]
