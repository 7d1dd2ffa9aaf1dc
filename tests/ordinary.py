"""Ordinary numbers for tests: normally distributed, the same for the same seed."""

import numpy as np
import torch


def ordinary(*shape, seed=0, scale=1.0):
    """float32 of mean 0 and deviation `scale`."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (numbers.numpy() * np.float32(scale)).astype(np.float32)


def token_ids(count, seed=0, first=3, last=320):
    """Ids in [first, last)."""
    made = torch.randint(first, last, (count,), generator=torch.Generator().manual_seed(seed))
    return tuple(made.tolist())
