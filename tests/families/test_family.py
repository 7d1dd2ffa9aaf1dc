"""Every family's spec names exactly the tensors that transformers saves; the rest is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from manyhands.domain.model_spec import BlockSpec, EmbedSpec, HeadSpec
from manyhands.errors import CheckpointError, ManyhandsError, NotServed, UnknownFamily
from manyhands.families.family import known_families, model_spec


def config(case="llama", **changes):
    return {**tiny.config(case).to_dict(), **changes}


def without(case, key):
    return {name: value for name, value in config(case).items() if name != key}


@pytest.mark.parametrize("case", tiny.CASES)
def test_the_tensor_table_is_exactly_what_transformers_saves(case):
    spec = model_spec(config(case))
    saved = {name: tuple(x.shape) for name, x in tiny.model(case).state_dict().items()}
    if tiny.config(case).tie_word_embeddings:
        del saved["lm_head.weight"]
    sources = [source for layer in spec.layers for source in layer.tensors.values()]
    assert {name: source.shape for source in sources for name in source.names} == saved


@pytest.mark.parametrize("case", tiny.CASES)
def test_the_spec_says_what_the_config_says(case):
    made, said = tiny.config(case), model_spec(config(case))
    assert said.family == made.model_type
    assert (said.width, said.vocabulary, said.context) == (64, 320, 512)
    parts = [type(layer.part) for layer in said.layers]
    assert parts == [EmbedSpec, *[BlockSpec] * 6, HeadSpec]
    model = tiny.model(case)
    for block, layer in zip(said.blocks, model.model.layers, strict=True):
        attention = layer.self_attn
        assert block.attention.scale == pytest.approx(attention.scaling, rel=1e-12)
        assert block.attention.head_dim == attention.head_dim
        for_all = getattr(made, "sliding_window", None)  # Mistral's attention does not keep it
        assert block.attention.window == getattr(attention, "sliding_window", for_all)
        assert (block.attention.qk_norm == "head") == hasattr(attention, "q_norm")
        assert block.attention.rope.inv_freq == pytest.approx(
            model.model.rotary_emb.inv_freq.tolist(), rel=1e-6
        )
        assert block.attention.rope.attention_factor == pytest.approx(
            model.model.rotary_emb.attention_scaling
        )
        assert block.norm.eps == made.rms_norm_eps
        assert (block.mlp.kind, block.mlp.activation, block.mlp.width) == ("gated", "silu", 96)


def test_windows_stand_where_layer_types_says():
    def windows(case, **changes):
        return [b.attention.window for b in model_spec(config(case, **changes)).blocks]

    assert windows("qwen2-layer-types") == [None, 8] * 3
    assert windows("qwen2-window", layer_types=None) == [None] * 3 + [8] * 3
    assert windows("qwen2", use_sliding_window=False, sliding_window=8) == [None] * 6
    assert windows("mistral-window") == [8] * 6
    assert windows("mistral") == [None] * 6
    no_key = without("mistral", "sliding_window")
    assert [b.attention.window for b in model_spec(no_key).blocks] == [4096] * 6


def test_a_tied_head_names_the_embedding_tensor():
    tied, untied = model_spec(config("llama-tied")), model_spec(config("llama"))
    assert tied.layers[-1].tensors["head"].names == tied.layers[0].tensors["tokens"].names
    assert tied.layers[-1].tensors["head"].layout == "tied"
    assert untied.layers[-1].tensors["head"].layout == "plain"


def test_an_old_llama_without_kv_heads_has_one_a_head():
    assert model_spec(without("llama", "num_key_value_heads")).blocks[0].attention.kv_heads == 4
    with pytest.raises(CheckpointError, match="num_key_value_heads"):
        model_spec(without("qwen2", "num_key_value_heads"))


def test_two_models_that_compute_differently_have_different_digests():
    digests = {model_spec(config(case)).digest() for case in tiny.CASES}
    # llama-sharded is llama in other files; within its context, dynamic is the default rope.
    assert len(digests) == len(tiny.CASES) - 2


def test_an_unknown_family_is_refused_with_the_names_of_those_served():
    assert set(known_families()) >= {"llama", "mistral", "qwen2", "qwen3"}
    with pytest.raises(UnknownFamily, match=r"gpt9.*llama.* mistral.* qwen2, qwen3"):
        model_spec({"model_type": "gpt9"})


@pytest.mark.parametrize(
    "name", ["rope", "values", "family", "__init__", "../llama", "os", "llama.spec", "LLAMA", ""]
)
def test_a_model_type_reaches_no_file_but_a_family(name):
    assert name not in known_families()
    with pytest.raises(UnknownFamily):
        model_spec({"model_type": name})


@pytest.mark.parametrize("value", [None, 7, ["llama"]])
def test_a_model_type_that_is_no_string_is_an_error(value):
    with pytest.raises(CheckpointError, match="model_type"):
        model_spec({"model_type": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", None),
        ("hidden_size", 0),
        ("hidden_size", -64),
        ("hidden_size", 64.0),
        ("hidden_size", "64"),
        ("hidden_size", 2**40),
        ("hidden_size", 66),
        ("num_attention_heads", 0),
        ("num_attention_heads", True),
        ("num_key_value_heads", 3),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("vocab_size", None),
        ("intermediate_size", None),
        ("max_position_embeddings", None),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", float("inf")),
        ("head_dim", -2),
        ("tie_word_embeddings", "yes"),
        ("attention_bias", 1),
        ("layer_types", ["full_attention"]),
        ("architectures", "LlamaForCausalLM"),
        ("rope_parameters", "default"),
    ],
)
def test_an_absurd_value_is_an_error_that_names_its_key(key, value):
    absurd = config(**{key: value})
    if key == "hidden_size":
        del absurd["head_dim"]
    with pytest.raises(CheckpointError, match=key):
        model_spec(absurd)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("llama", {"hidden_act": "tanh"}),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}),
        ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling.Other"}}),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}),
        ("llama", {"layer_types": ["full_attention", "chunked_attention"] * 3}),
        ("mistral", {"layer_types": ["full_attention"] * 6}),
        ("qwen3", {"layer_types": ["linear_attention"] * 6}),
        ("qwen2", {"partial_rotary_factor": 0.5}),
    ],
)
def test_a_switch_that_is_not_served_is_refused_and_not_run_wrong(case, changes):
    model_spec(config(case))
    with pytest.raises(NotServed):
        model_spec(config(case, **changes))


def test_a_sliding_layer_without_a_window_is_an_error():
    with pytest.raises(CheckpointError, match="sliding"):
        model_spec(config("qwen2-layer-types", use_sliding_window=False))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(
    case=st.sampled_from(["llama-yarn", "mistral-window", "qwen2-layer-types", "qwen3-window"]),
    data=st.data(),
)
def test_junk_in_a_config_gives_a_spec_or_a_typed_error(case, data):
    changed = dict(config(case))
    for key in data.draw(st.lists(st.sampled_from(sorted(changed)), min_size=1, max_size=2)):
        changed[key] = data.draw(JUNK)
    if data.draw(st.booleans()) and isinstance(changed.get("rope_parameters"), dict):
        inner = dict(changed["rope_parameters"])
        inner[data.draw(st.sampled_from(sorted(inner, key=str) or ["factor"]))] = data.draw(JUNK)
        changed["rope_parameters"] = inner
    try:
        spec = model_spec(changed)
    except ManyhandsError:
        return
    spec.digest()  # finite numbers only
