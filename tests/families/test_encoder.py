"""Encoders' specs read the tensors that are saved; switches that are not computed are refused."""

import pytest
from safetensors import safe_open

import tiny
from manyhands.domain.model_spec import BlockSpec, EmbedSpec, HeadSpec
from manyhands.errors import CheckpointError, NotServed
from manyhands.families.family import model_spec


def config(case, **changes):
    named = [type(tiny.model(case)).__name__]
    return {**tiny.config(case).to_dict(), "architectures": named, **changes}


@pytest.mark.parametrize("case", tiny.ENCODERS)
def test_every_tensor_of_a_block_is_read_and_only_poolers_and_other_heads_are_left(case, tmp_path):
    folder = tiny.make(case, tmp_path)
    spec = model_spec(config(case))
    with safe_open(folder / "model.safetensors", "np") as file:
        saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    read = {n for layer in spec.layers for source in layer.tensors.values() for n in source.names}
    assert read <= set(saved)
    left = set(saved) - read
    ours = ("pooler.", "cls.", "head.", "decoder.", "text_model.", "logit_", "vision_model.head.")
    assert all(name.startswith(ours) or name == "embeddings.mask_token" for name in left), left
    assert [type(layer.part) for layer in spec.layers] == [EmbedSpec, *[BlockSpec] * 6, HeadSpec]
    assert not spec.keeps_memory


def test_modernberts_blocks_see_all_or_a_window_on_both_sides_each_with_its_rope():
    blocks = model_spec(config("modernbert")).blocks
    assert [block.attention.window for block in blocks] == [None, 9, 9] * 2
    assert len({block.attention.rope for block in blocks}) == 2
    old = config("modernbert", layer_types=None, rope_parameters=None, global_rope_theta=160000.0)
    old |= {"local_rope_theta": 10000.0, "global_attn_every_n_layers": 3}
    assert model_spec(old).digest() == model_spec(config("modernbert")).digest()


def test_modernberts_older_words_win_as_they_do_with_transformers():
    scaling = {"rope_type": "linear", "factor": 3.0}
    plain, scaled = (
        model_spec(config("modernbert", **changes)).blocks
        for changes in ({}, {"rope_scaling": scaling, "sliding_window": 5})
    )
    for one, other in zip(plain, scaled, strict=True):
        slower = [frequency / 3 for frequency in one.attention.rope.inv_freq]
        assert other.attention.rope.inv_freq == pytest.approx(slower)
    assert [block.attention.window for block in scaled] == [None, 6, 6] * 2


def test_an_image_that_is_no_multiple_of_its_patches_is_cut():
    patches = model_spec(config("siglip-vision")).embed.patches
    assert (patches.height, patches.squares, patches.elements) == (37, 16, 192)


@pytest.mark.parametrize(
    ("case", "changes", "said"),
    [
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention"),
        ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert", {"hidden_act": "mish"}, "mish"),
        ("bert", {"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
        ("bert", {"architectures": ["BertLMHeadModel"], "is_decoder": True}, "is_decoder"),
        ("bert", {"auto_map": {"AutoModel": "modeling.Other"}}, "auto_map"),
        ("electra", {"embedding_size": 32}, "embedding_size"),
        (
            "modernbert",
            {"architectures": ["ModernBertForSequenceClassification"]},
            "ModernBertForSequenceClassification",
        ),
        ("modernbert", {"layer_types": ["linear_attention"] * 6}, "linear_attention"),
        ("vit", {"patch_size": [8, 4]}, "patch_size"),
        ("vit", {"architectures": ["ViTForMaskedImageModeling"]}, "ViTForMaskedImageModeling"),
        ("dinov2", {"use_swiglu_ffn": True}, "use_swiglu_ffn"),
        ("dinov2", {"architectures": ["Dinov2ForImageClassification"]}, "Dinov2For"),
        ("siglip", {"architectures": ["SiglipForImageClassification"]}, "SiglipFor"),
    ],
)
def test_a_switch_that_is_not_computed_is_refused_by_name(case, changes, said):
    model_spec(config(case))
    with pytest.raises(NotServed, match=said):
        model_spec(config(case, **changes))


@pytest.mark.parametrize(
    ("case", "key", "value"),
    [
        ("bert", "hidden_size", 66),
        ("bert", "architectures", [5]),
        ("bert-classes", "id2label", 5),
        ("roberta", "max_position_embeddings", 2),
        ("vit", "image_size", [32, 32, 32]),
        ("vit", "image_size", 4),
        ("vit", "patch_size", 0),
        ("distilbert", "dim", None),
        ("siglip", "vision_config", 7),
    ],
)
def test_an_absurd_value_is_an_error(case, key, value):
    with pytest.raises(CheckpointError):
        model_spec(config(case, **{key: value}))
