"""Any module whose blocks stand in a row, spread over peers, gives what it gives by itself."""

import pytest
import torch
from torch import nn

import manyhands as mh
from manyhands.errors import NotServed, UserError

pytestmark = pytest.mark.timeout(180)


class Net(nn.Module):
    """Blocks in a list, a mask for all of them, and more of the input behind them."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(8, 16)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True) for _ in range(4)
        )
        self.leave, self.past = nn.LayerNorm(16), nn.Linear(8, 16)

    def forward(self, x, scale=None):
        hidden = self.enter(x)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        for block in self.blocks:
            hidden = block(hidden, src_mask=mask)
        out = self.leave(hidden) + self.past(x)
        return {"out": out, "mean": out.mean(1)} if scale is None else out * scale


class Twice(nn.Module):
    """One block called again and again."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x):
        for block in (*self.blocks, *self.blocks):
            x = block(x)
        return x


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        yield


def test_a_spread_module_gives_what_it_gives_and_survives_a_loss():
    module, x = Net().eval(), torch.randn(2, 5, 8)
    with mh.spread(module, x, peers=3) as spread:
        assert spread.peers == ("0: layers [0, 2)", "1: layers [2, 4)", "2: layers [4, 6)")
        for given in (x, torch.randn(3, 7, 8)):
            mine, theirs = spread(given), module(given)
            assert list(mine) == list(theirs)
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        spread.kill(1)
        torch.testing.assert_close(spread(x), module(x), rtol=1e-5, atol=1e-6)
        with pytest.raises(UserError, match="spread it again"):
            spread(x, scale=x)


def test_a_sequential_is_its_own_spine():
    module = nn.Sequential(
        nn.Embedding(10, 8), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)
    ).eval()
    ids = torch.tensor([[1, 2, 3]])
    with mh.spread(module, ids, peers=2) as spread:
        torch.testing.assert_close(spread(ids), module(ids), rtol=1e-5, atol=1e-6)


def test_an_image_model_of_transformers_is_spread():
    from transformers import BeitConfig, BeitForImageClassification

    config = BeitConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=16,
        patch_size=4,
        num_labels=5,
    )
    module = BeitForImageClassification(config).eval()
    image = torch.randn(1, 3, 16, 16)
    with mh.spread(module, pixel_values=image, peers=3) as spread:
        said = spread(pixel_values=image).logits
        torch.testing.assert_close(said, module(image).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "x", "match"),
    [
        (Twice().eval(), torch.randn(1, 8), "not called in a row"),
        (nn.Linear(8, 8).eval(), torch.randn(1, 8), "no row of modules"),
        (nn.Sequential(nn.Linear(8, 8), nn.ReLU()), torch.randn(1, 8), "training"),
        (nn.Sequential(nn.Linear(8, 8), nn.ReLU()).double().eval(), torch.randn(1, 8), "float64"),
    ],
)
def test_what_has_no_row_of_blocks_is_refused_with_the_reason(module, x, match):
    with pytest.raises(NotServed, match=match):
        mh.spread(module, x)


def test_without_an_example_nothing_can_be_seen():
    with pytest.raises(UserError, match="example"):
        mh.spread(nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval())
