"""MXFP4 and block-scaled FP8 become the numbers that transformers makes of them."""

import numpy as np
import pytest
import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from manyhands.engine.dequantise import fp8_blocks, mxfp4


def bytes_of(*shape, most=256, seed=0):
    made = torch.Generator().manual_seed(seed)
    return torch.randint(0, most, shape, dtype=torch.uint8, generator=made).numpy()


def factors_of(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).numpy()


def test_mxfp4_is_what_transformers_makes_of_it():
    blocks = bytes_of(2, 6, 3, 16)
    exponents = bytes_of(2, 6, 3, most=40, seed=1) + np.uint8(110)
    theirs = convert_moe_packed_tensors(
        torch.from_numpy(blocks.copy()), torch.from_numpy(exponents.copy()), dtype=torch.float32
    )
    for expert in range(2):
        ours = mxfp4(blocks[expert], exponents[expert])
        assert ours.shape == (6, 96)
        np.testing.assert_array_equal(ours.T, theirs[expert].numpy())


def test_every_fp8_byte_is_the_number_torch_reads():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    theirs = torch.from_numpy(every.copy()).view(torch.float8_e4m3fn).float().numpy()
    ours = fp8_blocks(every, np.ones((1, 1), np.float32), (16, 16))
    np.testing.assert_array_equal(ours, theirs)


def test_fp8_blocks_are_what_transformers_makes_of_them():
    numbers = bytes_of(12, 20, most=120)
    factors = factors_of(3, 5)
    theirs = Fp8Dequantize(None)._dequantize_one(
        torch.from_numpy(numbers.copy()).view(torch.float8_e4m3fn), torch.from_numpy(factors)
    )
    np.testing.assert_array_equal(fp8_blocks(numbers, factors, (4, 4)), theirs.numpy())


@pytest.mark.parametrize("block", [(5, 8), (12, 7), (128, 128)])
def test_the_last_fp8_blocks_may_be_cut(block):
    numbers = bytes_of(12, 20, most=120)
    grid = (-(-12 // block[0]), -(-20 // block[1]))
    factors = factors_of(*grid)
    ours = fp8_blocks(numbers, factors, block)
    plain = fp8_blocks(numbers, np.ones((1, 1), np.float32), (12, 20))
    for row, column in ((0, 0), (11, 19), (4, 7), (5, 8)):
        factor = factors[row // block[0], column // block[1]]
        assert ours[row, column] == plain[row, column] * factor
