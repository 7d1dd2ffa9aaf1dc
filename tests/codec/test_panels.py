"""Panels give back what was laid into them, and stack without a copy where they lie together."""

import mmap

import numpy as np
import pytest

from manyhands.codec.panels import (
    PANEL,
    Panels,
    laid_out,
    panel_bytes,
    panel_scales,
    rows_at,
    stacked,
    taken_apart,
)
from manyhands.codec.weight_blocks import quantise
from manyhands.domain import weight_format
from ordinary import ordinary

SHAPES = [(16, 32), (1, 1), (40, 96), (33, 70), (48, 33)]


def same(one, other):
    assert (one.bits, one.width) == (other.bits, other.width)
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_array_equal(one.scales, other.scales)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_laid_out_comes_back(shape, bits):
    blocks = quantise(ordinary(*shape), bits)
    panels = laid_out(blocks)
    count = -(-shape[0] // PANEL)
    assert panels.codes.shape == (count, panel_bytes(bits, shape[1]))
    assert panels.scales.shape == (count, panel_scales(shape[1]))
    same(taken_apart(panels), blocks)
    some = np.array([shape[0] - 1, 0])
    np.testing.assert_array_equal(rows_at(panels, some).codes, blocks.codes[some])
    np.testing.assert_array_equal(rows_at(panels, some).scales, blocks.scales[some])


def test_the_layout_is_the_one_that_is_written_down():
    assert weight_format.PANEL == PANEL
    blocks = quantise(ordinary(16, 32), 8)
    codes = laid_out(blocks).codes.reshape(8, PANEL, 4)
    for group, out, place in [(0, 0, 0), (3, 5, 2), (7, 15, 3)]:
        assert codes[group, out, place] == int(blocks.codes[out, 4 * group + place]) + 128


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("outs", [(16, 32, 48), (17, 16), (16, 5), (5, 5, 5)])
def test_matrices_under_each_other_are_one(outs, bits):
    parts = [quantise(ordinary(out, 70, seed=out), bits) for out in outs]
    together = taken_apart(stacked([laid_out(part) for part in parts]))
    np.testing.assert_array_equal(together.codes, np.concatenate([part.codes for part in parts]))
    np.testing.assert_array_equal(together.scales, np.concatenate([part.scales for part in parts]))


def shown(memory, at, parts):
    """The parts, as they were written one behind the other into memory from `at` on."""
    for part in parts:
        array = np.frombuffer(memory, part.dtype, part.size, at).reshape(part.shape)
        array[...] = part
        at += part.nbytes
        yield array


def test_neighbours_in_one_memory_are_shown_and_others_copied():
    parts = [laid_out(quantise(ordinary(out, 64, seed=out), 4)) for out in (16, 32, 20)]
    memory, other = mmap.mmap(-1, 1 << 16), mmap.mmap(-1, 1 << 16)
    codes = list(shown(memory, 0, [part.codes for part in parts]))
    scales = list(shown(memory, 1 << 15, [part.scales for part in parts]))
    lie = [
        Panels(4, part.outs, 64, *arrays)
        for part, *arrays in zip(parts, codes, scales, strict=True)
    ]
    together = stacked(lie)
    assert np.shares_memory(together.codes, codes[2])
    assert np.shares_memory(together.scales, scales[0])
    same(taken_apart(together), taken_apart(stacked(parts)))
    assert not np.shares_memory(stacked([lie[0], lie[2]]).codes, codes[0])
    (elsewhere,) = shown(other, 0, [parts[1].codes])
    mixed = stacked([lie[0], Panels(4, 32, 64, elsewhere, scales[1])])
    assert not np.shares_memory(mixed.codes, codes[0])
