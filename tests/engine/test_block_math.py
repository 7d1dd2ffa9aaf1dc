"""The small functions of both engines against torch's own and against each other."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from manyhands.domain.model_spec import Attention, Mlp, Norm, Rope
from manyhands.engine import numpy_math, torch_math
from manyhands.engine.layer_weights import NormWeights


def randoms(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both(name, *arguments):
    """The torch function's and the numpy function's answer to the same arguments."""
    in_numpy = [a.numpy() if isinstance(a, torch.Tensor) else a for a in arguments]
    return (
        getattr(torch_math, name)(*arguments).numpy(),
        getattr(numpy_math, name)(*in_numpy),
    )


PLAIN = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "relu2": lambda x: functional.relu(x) ** 2,
}


@pytest.mark.parametrize("name", PLAIN)
def test_activations_are_those_of_torch(name):
    rows = torch.cat([randoms(3, 12) * 3, torch.tensor([[-1e4, 1e4, -90.0, 90.0] * 3])])
    for ours in both("activate", rows, Mlp("plain", name, 12)):
        np.testing.assert_allclose(ours, PLAIN[name](rows).numpy(), rtol=1e-5, atol=1e-6)
    for ours in both("activate", rows, Mlp("gated", name, 6)):
        expected = PLAIN[name](rows[:, :6]) * rows[:, 6:]
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [None, 1.5])
def test_the_activation_of_gpt_oss_is_that_of_transformers(limit):
    rows = randoms(5, 16) * 3
    gate, up = rows[:, :8], rows[:, 8:]
    if limit is not None:
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    expected = ((up + 1) * gate * torch.sigmoid(gate * 1.702)).numpy()
    for ours in both("activate", rows, Mlp("gated", "swiglu_oai", 8, limit=limit, alpha=1.702)):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("has", ["nothing", "weight", "weight and bias"])
def test_norms_are_their_definition(kind, plus_one, has):
    rows, weight, bias = randoms(4, 10) * 5 + 1, randoms(10, seed=1), randoms(10, seed=2)
    centred = rows - rows.mean(-1, keepdim=True) if kind == "layer" else rows
    expected = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-3).sqrt()
    expected = expected * ((weight + 1 if plus_one else weight) if has != "nothing" else 1)
    expected = expected + (bias if has == "weight and bias" else 0)
    given = NormWeights(
        None if has == "nothing" else weight, bias if has == "weight and bias" else None
    )
    in_numpy = NormWeights(*(None if w is None else w.numpy() for w in (given.weight, given.bias)))
    spec = Norm(kind, 1e-3, plus_one)
    for ours in (torch_math.norm(rows, spec, given), numpy_math.norm(rows.numpy(), spec, in_numpy)):
        np.testing.assert_allclose(np.asarray(ours), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_turns_pairs_by_their_angle_and_leaves_the_rest(interleaved):
    rope = Rope((1.0, 0.1), interleaved, attention_factor=1.5)
    heads, positions = randoms(3, 2, 6), torch.tensor([0.0, 1.0, 7.0])
    pairs = [(0, 1), (2, 3)] if interleaved else [(0, 2), (1, 3)]
    expected = heads.clone()
    for row, position in enumerate(positions.tolist()):
        for frequency, (a, b) in zip(rope.inv_freq, pairs, strict=True):
            turn = 1.5 * complex(math.cos(position * frequency), math.sin(position * frequency))
            x, y = heads[row, :, a], heads[row, :, b]
            expected[row, :, a] = x * turn.real - y * turn.imag
            expected[row, :, b] = y * turn.real + x * turn.imag
    in_torch, in_numpy = heads.clone(), heads.numpy().copy()
    turns = torch_math.rotation(rope, False, positions, torch.float32)
    torch_math.rotate(in_torch, rope, *turns)
    turns = numpy_math.rotation(rope, False, positions.numpy())
    numpy_math.rotate(in_numpy, rope, *turns)
    for ours in (in_torch.numpy(), in_numpy):
        np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)


def written_down(queries, keys, values, position, spec, sinks):
    """Attention head by head and query by query, as the definition says."""
    tokens, out = queries.shape[0], []
    for t in range(tokens):
        sees = range(0 if spec.window is None else max(0, position + t + 1 - spec.window),
                     position + t + 1)  # fmt: skip
        for h in range(spec.heads):
            k = h * spec.kv_heads // spec.heads
            scores = (keys[k, list(sees)] @ queries[t, h]).double() * spec.scale
            if spec.softcap is not None:
                scores = torch.tanh(scores / spec.softcap) * spec.softcap
            mass = scores.exp()
            total = mass.sum() + (0 if sinks is None else sinks[h].double().exp())
            out.append((mass / total) @ values[k, list(sees)].double())
    return torch.stack(out).reshape(tokens, -1).float().numpy()


@pytest.mark.parametrize("window", [None, 1, 5])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("has_sinks", [False, True])
@pytest.mark.parametrize(("position", "tokens"), [(0, 1), (0, 9), (6, 1), (6, 4), (0, 140)])
def test_attention_is_its_definition(window, softcap, has_sinks, position, tokens):
    spec = Attention(4, 2, 6, 5, 0.4, window=window, softcap=softcap, sinks=has_sinks)
    queries, end = randoms(tokens, 4, 6), position + tokens
    keys, values = randoms(2, end, 6, seed=1), randoms(2, end, 5, seed=2)
    sinks = randoms(4, seed=3) if has_sinks else None
    expected = written_down(queries, keys, values, position, spec, sinks)
    start = max(0, end - window) if window is not None and tokens == 1 else 0
    mask = torch_math.mask_of(position, tokens, window, torch.float32)
    if tokens == 1 or (position == 0 and window is None):
        mask = None
    in_torch = torch_math.attend(queries, keys[:, start:], values[:, start:], mask, spec, sinks)
    in_numpy = numpy_math.attend(
        queries.numpy(), keys.numpy(), values.numpy(), position, spec,
        None if sinks is None else sinks.numpy(),
    )  # fmt: skip
    np.testing.assert_allclose(in_torch.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(in_numpy.reshape(tokens, -1), expected, atol=1e-5)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 40), (40, 40), (7, 40)])
def test_alibi_counts_from_each_query(queries, keys):
    slopes = (0.5, 0.25, 1.5, 0.01)
    spec = Attention(4, 2, 8, 8, 0.3, alibi=slopes)
    q, k, v = randoms(queries, 4, 8), randoms(2, keys, 8, seed=1), randoms(2, keys, 8, seed=2)
    position = keys - queries
    far = torch.arange(keys)[None] - torch.arange(position, keys)[:, None]
    bias = torch.tensor(slopes)[:, None, None] * far
    bias = bias.masked_fill(far > 0, -math.inf)
    expected = functional.scaled_dot_product_attention(
        q.transpose(0, 1), k.repeat_interleave(2, 0), v.repeat_interleave(2, 0), bias, scale=0.3
    ).transpose(0, 1)
    mask = None if queries == 1 else torch_math.mask_of(position, queries, None, torch.float32)
    in_torch = torch_math.attend(q, k, v, mask, spec, None).view(queries, 4, 8)
    np.testing.assert_allclose(in_torch.numpy(), expected.numpy(), atol=2e-6)
    in_numpy = numpy_math.attend(q.numpy(), k.numpy(), v.numpy(), position, spec, None)
    np.testing.assert_allclose(in_numpy, expected.numpy(), atol=2e-6)
