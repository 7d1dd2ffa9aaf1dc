"""A torch module of your own, spread over three peers; one is lost, and the next call still works.

python examples/spread_module.py          needs torch
"""

import torch
from torch import nn

import manyhands as mh


class Tower(nn.Module):
    """Twelve blocks, one after the other, with something in front of them and behind."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(10, 64)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(64, 4, 128) for _ in range(12))
        self.leave = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[T, B, 10] -> [T, B, 3]."""
        hidden = self.enter(x)
        for block in self.blocks:
            hidden = block(hidden)
        return self.leave(hidden)


module, x = Tower().eval(), torch.randn(7, 2, 10)
with mh.spread(module, x, peers=3) as spread, torch.inference_mode():
    print(*spread.peers, sep="\n")
    print("far from the module's own result:", float((spread(x) - module(x)).abs().max()))
    spread.kill(1)
    other = torch.randn(4, 1, 10)
    is_same = torch.allclose(spread(other), module(other), atol=1e-5)
    print("the same after a loss:", "yes" if is_same else "no")
