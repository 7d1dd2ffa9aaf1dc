"""ViT: patches behind a class token, whose last vector stands for the image. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import Mlp, ModelSpec
from manyhands.families import vision
from manyhands.families.encoder import Names, mlp_activation
from manyhands.families.values import Config, whole
from manyhands.families.vision import Traits

ARCHITECTURES = ("Model", vision.CLASSIFIER)

EMBED = {
    "patches": "embeddings.patch_embeddings.projection",
    "class_token": "embeddings.cls_token!",
    "positions": "embeddings.position_embeddings!",
}
ATTENTION = {
    "q": "encoder.layer.{}.attention.attention.query",
    "k": "encoder.layer.{}.attention.attention.key",
    "v": "encoder.layer.{}.attention.attention.value",
    "o": "encoder.layer.{}.attention.output.dense",
}
BLOCK = {
    **ATTENTION,
    "attention_norm": "encoder.layer.{}.layernorm_before",
    "up": "encoder.layer.{}.intermediate.dense",
    "down": "encoder.layer.{}.output.dense",
    "mlp_norm": "encoder.layer.{}.layernorm_after",
}
HEAD = {"norm": "layernorm", "head": "classifier"}


def spec(config: Config) -> ModelSpec:
    """A ViT. The pooler that transformers puts on top of a bare one is not computed."""
    mlp = Mlp("plain", mlp_activation(config, "hidden_act"), whole(config, "intermediate_size"))
    return vision.encoder(config, Traits("vit", Names("vit", EMBED, BLOCK, HEAD), mlp, eps=1e-12))
