"""What torch computes of each number by itself has the same bits wherever the number lies."""

import pytest
import torch

from manyhands.domain.model_spec import Mlp
from manyhands.engine.torch_integers import in_vectors
from manyhands.engine.torch_math import activate
from ordinary import ordinary

MLPS = {
    name: Mlp(kind, name, 40)
    for name, kind in {
        "silu": "gated",
        "gelu": "plain",
        "gelu_tanh": "plain",
        "relu2": "plain",
        "swiglu_oai": "gated",
    }.items()
}


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", MLPS)
def test_rows_have_the_bits_they_have_alone_whatever_their_width_and_the_threads(
    name, three_threads
):
    spec = MLPS[name]
    rows = torch.from_numpy(ordinary(2049, 2 * spec.width if spec.kind == "gated" else spec.width))
    together = activate(rows, spec, in_vectors)
    torch.testing.assert_close(together, activate(rows, spec))
    for row in (0, 1, 700, 1023, 2048):
        alone = activate(rows[row : row + 1], spec, in_vectors)
        assert torch.equal(alone[0].view(torch.int32), together[row].view(torch.int32))


def test_plain_torch_does_not_keep_that(three_threads):
    """If it ever does, `in_vectors` is of no use any more."""
    rows = torch.from_numpy(ordinary(2049, 40))
    spec = MLPS["gelu_tanh"]
    alone = torch.cat([activate(rows[row : row + 1], spec) for row in range(2049)])
    assert not torch.equal(alone, activate(rows, spec))
