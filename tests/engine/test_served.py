"""Words the block engines do not compute are refused at load, each by its name."""

from dataclasses import replace

import pytest

import tiny
from engine_cases import LOADS
from manyhands.domain.model_spec import Latent, LayerSpec, Moe, Patches, TensorSource
from manyhands.domain.span import Span
from manyhands.errors import CheckpointError, NotServed
from manyhands.store.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Checkpoint.open(tiny.make("starcoder2", tmp_path_factory.mktemp("m")))


def changed(spec, place, part=None, tensors=None):
    layer = spec.layers[place]
    new = LayerSpec(part or layer.part, tensors or layer.tensors)
    return replace(spec, layers=(*spec.layers[:place], new, *spec.layers[place + 1 :]))


def attention(**words):
    return lambda block: replace(block, attention=replace(block.attention, **words))


def block(**words):
    return lambda block: replace(block, **words)


UNSERVED = [
    (2, block(flow="post", residual_scale=2.0), "flow 'post'"),
    (2, block(moe=Moe(4, 2, "softmax", groups=3)), "4 experts in 3 groups"),
    (2, block(moe=Moe(4, 2, "sigmoid", softmax_after_topk=True)), "sigmoid scores"),
    (2, block(residual_from_norm=True, flow="parallel"), "residual_from_norm in a parallel"),
    (2, block(residual_from_norm=True, flow="post"), "residual_from_norm in a post"),
    (2, attention(latent=Latent(None, 8, 6, 6)), "latent attention with a window"),
    (2, attention(latent=Latent(None, 8, 6, 6), window=None, sinks=True), "with sinks"),
    (2, attention(latent=Latent(None, 8, 6, 6), rope=None), "with no rope"),
    (2, attention(latent=Latent(None, 8, 6, 6), causal=False), "see those behind them"),
    (2, attention(alibi=(1.0,) * 4), "alibi with a window"),
    (2, attention(causal=False), "not causal"),
    (0, lambda embed: replace(embed, patches=Patches(4, 3, 8, 8)), "patches"),
    (7, lambda head: replace(head, kind="classify"), "'classify'"),
]


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize(("place", "change", "word"), UNSERVED, ids=[u[2] for u in UNSERVED])
def test_an_unserved_word_is_refused_at_load_by_name(model, load, place, change, word):
    spec = changed(model.spec, place, change(model.spec.layers[place].part))
    with pytest.raises(NotServed, match=word):
        load(spec, spec.span, model.read, kv_bytes=1)
    elsewhere = Span(3, 5)  # layers that do not have the word are served
    assert load(spec, elsewhere, model.read, kv_bytes=1).span == elsewhere


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("name", ["attention_scale.bias", "router", "rubbish.bias", "q_norm.bias"])
def test_a_tensor_nobody_computes_with_is_refused_by_name(model, load, name):
    table = {**model.spec.layers[2].tensors, name: TensorSource(("model.norm.weight",), (64,))}
    spec = changed(model.spec, 2, tensors=table)
    with pytest.raises((NotServed, CheckpointError), match=name):
        load(spec, spec.span, model.read, kv_bytes=1)


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_a_table_that_lacks_a_tensor_or_disagrees_with_its_words_is_refused(model, load):
    table = dict(model.spec.layers[2].tensors)
    norm = TensorSource(("model.norm.weight",), (16,), "rows", 0, 16, 64)
    for wrong, complaint in (
        ({k: v for k, v in table.items() if k != "down"}, "no tensor 'down'"),
        ({**table, "q": replace(table["q"], shape=(63, 64))}, "'q' has shape"),
        ({**table, "q_norm": norm, "k_norm": norm}, "qk_norm is 'none'"),
        ({**table, "sinks": replace(norm, shape=(4,), last=4)}, "sinks is False"),
    ):
        spec = changed(model.spec, 2, tensors=wrong)
        weights = model.read

        def cut(source, weights=weights):
            stored = weights(source)
            size = source.elements * 4
            return replace(stored, shape=source.shape, data=stored.data[:size])

        with pytest.raises(CheckpointError, match=complaint):
            load(spec, spec.span, cut, kv_bytes=1)
