"""Every key of every config, set to another value, is computed as transformers does or refused."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch

import tiny
from encoder_cases import images, of_images, of_texts, squares
from manyhands.domain.model_spec import Patches
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
    "position_embedding_type": "relative_key",
    "is_decoder": True,
    "add_cross_attention": True,
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


def theirs(oracle, config, run):
    """What `run` makes of transformers with other words in its config and the same weights.

    None where it does not take the config.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = type(oracle)._from_config(
                type(oracle.config).from_dict(copy.deepcopy(config)),
                attn_implementation=tiny.ORACLES.get(config["model_type"], "eager"),
            )
            made.load_state_dict(oracle.state_dict(), strict=True)
        return run(made.eval())
    except Exception:  # noqa: BLE001  # whatever it says of a config that is none
        return None


def compared(case, folder, section, ours, run):
    """How many other values of keys in `section` gave an engine, which then agreed with theirs."""
    oracle = tiny.oracle(tiny.make(case, folder))
    checkpoint = Checkpoint.open(folder)
    written = json.loads((folder / "config.json").read_text("utf-8"))
    inside = written.get(section, written)
    tried = [(k, v) for k in inside if k not in SIZES for v in others(k, inside[k])]
    tried += [(k, v) for k, v in ADDED.items() if inside.get(k) != v]
    count = 0
    for key, value in tried:
        config = copy.deepcopy(written)
        config.get(section, config)[key] = value
        try:
            spec = model_spec(config)
            engine = numpy_blocks.load(spec, spec.span, checkpoint.read, kv_bytes=1)
        except ManyhandsError:
            continue
        expected = theirs(oracle, config, run)
        if expected is None:
            continue
        given = ours(engine, spec)
        np.testing.assert_allclose(given, expected, atol=1e-3, err_msg=f"{key} = {value}")
        count += 1
    return count


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in tiny.SPEAKERS if case not in tiny.SLOW])
def test_every_switch_is_computed_as_transformers_does_or_refused(case, tmp_path):
    def run(made):
        with torch.inference_mode():
            return made(torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()

    def ours(engine, _):
        return engine.forward(TOKENS, None).scores

    assert compared(case, tmp_path, "text_config", ours, run) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("case", tiny.TEXT_ENCODERS)
def test_every_switch_of_an_encoder_of_texts_too(case, tmp_path):
    def run(made):
        (hidden,), classes = of_texts(made, [TOKENS])
        return hidden if classes is None else classes[0].numpy()

    def ours(engine, spec):
        output = engine.forward(TOKENS, None)
        return output.pooled[0] if spec.head.kind == "classify" else output.hidden

    assert compared(case, tmp_path, "text_config", ours, run) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("case", tiny.IMAGE_ENCODERS)
def test_every_switch_of_an_encoder_of_images_too(case, tmp_path):
    def run(made):
        config = getattr(made.config, "vision_config", made.config)
        sides = config.image_size
        height, width = sides if isinstance(sides, list | tuple) else (sides, sides)
        patches = Patches(kernel=1, channels=config.num_channels, height=height, width=width)
        (hidden,), classes = of_images(made, images(patches, 1))
        return hidden if classes is None else classes[0].numpy()

    def ours(engine, spec):
        patches = spec.embed.patches
        given = squares(images(patches, 1)[0], patches)
        output = engine.forward([0] * spec.context, given)
        return output.pooled[0] if spec.head.kind == "classify" else output.hidden

    assert compared(case, tmp_path, "vision_config", ours, run) >= 3
