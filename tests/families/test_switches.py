"""Every key of every config, set to another value, is computed as transformers does or refused."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
import transformers

import tiny
from manyhands.engine import numpy_blocks
from manyhands.errors import ManyhandsError
from manyhands.families.family import model_spec
from manyhands.store.checkpoint import Checkpoint

TOKENS = [3 + (7 * i * i) % 150 for i in range(40)]

SAFE = ("dropout", "pdrop", "layerdrop", "token_id", "output_", "label", "initializer", "init_")
"""Parts of keys that change nothing in a forward pass."""

SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "n_positions",
    "max_seq_len", "vision_config", "architectures", "model_type", "dtype", "tie_word_embeddings",
)  # fmt: skip
"""Keys whose other values ask for other tensors, which `Checkpoint.check` refuses."""

ADDED = {
    "partial_rotary_factor": 0.5,
    "rope_theta": 500.0,
    "rope_scaling": {"rope_type": "linear", "factor": 3.0},
    "sliding_window": 6,
    "use_sliding_window": True,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
}
"""Tried of every family, also of those whose configs do not have them."""


def others(key, value):
    """Other values of the kind of this one."""
    if any(part in key for part in SAFE):
        return
    match value:
        case bool():
            yield not value
        case int():
            yield from (value * 2, max(1, value // 2), value + 1)
        case float():
            yield value * 3 + 0.01
        case None:
            yield from (True, 3, 0.3)
        case str() if "act" in key:
            yield from ("gelu", "relu")
        case [str(), *_] | [int(), *_]:
            yield from (value[::-1], [value[0]] * len(value), [value[-1]] * len(value))
        case dict():
            yield from ({**value, k: v} for k in value for v in others(k, value[k]))


def theirs(config, kind, state):
    """The scores of transformers with these weights, or None where it does not take the config."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = transformers.AutoModelForCausalLM.from_config(
                kind.from_dict(copy.deepcopy(config)),
                attn_implementation=tiny.ORACLES.get(config["model_type"], "eager"),
            )
            made.load_state_dict(state, strict=True)
        with torch.inference_mode():
            return made.eval()(torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()
    except Exception:  # noqa: BLE001  # whatever it says of a config that is none
        return None


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in tiny.SPEAKERS if case not in tiny.SLOW])
def test_every_switch_is_computed_as_transformers_does_or_refused(case, tmp_path):
    oracle = tiny.oracle(tiny.make(case, tmp_path))
    checkpoint, state = Checkpoint.open(tmp_path), oracle.state_dict()
    written = json.loads((tmp_path / "config.json").read_text("utf-8"))
    inside = written.get("text_config", written)
    tried = [(k, v) for k in inside if k not in SIZES for v in others(k, inside[k])]
    tried += [(k, v) for k, v in ADDED.items() if inside.get(k) != v]
    compared = 0
    for key, value in tried:
        config = copy.deepcopy(written)
        config.get("text_config", config)[key] = value
        try:
            spec = model_spec(config)
            engine = numpy_blocks.load(spec, spec.span, checkpoint.read, kv_bytes=1)
        except ManyhandsError:
            continue
        expected = theirs(config, type(oracle.config), state)
        if expected is None:
            continue
        ours = engine.forward(TOKENS, None).scores
        np.testing.assert_allclose(ours, expected, atol=1e-3, err_msg=f"{key} = {value}")
        compared += 1
    assert compared >= 3
