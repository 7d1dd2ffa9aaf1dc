"""Matrices in blocks come out of a checkpoint as they were put in, stacked, and checked."""

import numpy as np
import pytest

from manyhands.codec.panels import laid_out, taken_apart
from manyhands.codec.weight_blocks import dequantise, quantise
from manyhands.domain.model_spec import TensorSource
from manyhands.domain.tensor_frame import StoredTensor
from manyhands.engine.block_weights import read_linear, read_panels, read_plain
from manyhands.engine.compiled import new_crew
from manyhands.errors import CheckpointError
from ordinary import ordinary

WIDTH = 70
KINDS = {"a": (8, 40), "b": (8, 17), "c": (4, 33), "d": (4, 16), "e": (8, 5)}
"""Bits and outputs of matrices that stand under each other."""

BLOCKS = {
    name: quantise(ordinary(outs, WIDTH, seed=place), bits)
    for place, (name, (bits, outs)) in enumerate(KINDS.items())
}


def source(name):
    bits, outs = KINDS[name]
    return TensorSource((name, f"{name}.scales"), (outs, WIDTH), f"int{bits}_blocks")


def stored(changed=None):
    """A reader of all matrices; `changed` replaces what it says of some tensors."""

    def read(part):
        (name,) = part.names
        held = laid_out(BLOCKS[name.removesuffix(".scales")])
        made, dtype = (held.scales, "BF16") if name.endswith(".scales") else (held.codes, "U8")
        told = StoredTensor(dtype, made.shape, memoryview(made.tobytes()))
        return (changed or {}).get(name, lambda same: same)(told)

    return read


@pytest.mark.parametrize("name", KINDS)
def test_what_was_put_in_comes_out(name):
    blocks = taken_apart(read_panels(source(name), stored()))
    np.testing.assert_array_equal(blocks.codes, BLOCKS[name].codes)
    np.testing.assert_array_equal(blocks.scales, BLOCKS[name].scales)
    np.testing.assert_array_equal(read_plain(source(name), stored()), dequantise(BLOCKS[name]))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("names", ["a", "ab", "abcde", "cda", "ace"])
def test_matrices_under_each_other_give_what_each_gives(names, threads):
    crew = new_crew(threads) if threads else None
    if threads and crew is None:
        pytest.skip("numba is not installed")
    rows = ordinary(9, WIDTH, seed=9)
    bias = ordinary(sum(KINDS[name][1] for name in names), seed=8)
    each = [read_linear([source(name)], stored(), None, None)(rows) for name in names]
    together = read_linear([source(name) for name in names], stored(), crew, bias)
    np.testing.assert_array_equal(together(rows), np.concatenate(each, axis=1) + bias)


def test_bytes_are_those_of_all_products_and_the_bias():
    bias = ordinary(57)
    held = read_linear([source("a"), source("b")], stored(), None, bias).bytes_held
    parts = (BLOCKS["a"].codes, BLOCKS["a"].scales, BLOCKS["b"].codes, BLOCKS["b"].scales, bias)
    assert held == sum(part.nbytes for part in parts)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a", lambda told: StoredTensor("I8", told.shape, told.data)),
        ("a", lambda told: StoredTensor("U8", (4, told.shape[1]), told.data)),
        ("a.scales", lambda told: StoredTensor("F16", told.shape, told.data)),
        ("a.scales", lambda told: StoredTensor("BF16", told.shape[::-1], told.data)),
    ],
)
def test_files_that_do_not_belong_together_are_refused_by_the_tensors_name(name, change):
    with pytest.raises(CheckpointError, match=rf"'{name}' is .* convert the model again"):
        read_panels(source("a"), stored({name: change}))
