"""DINOv2: a ViT with a learned scale behind attention and MLP. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import Mlp, ModelSpec
from manyhands.errors import NotServed
from manyhands.families import vision
from manyhands.families.encoder import Names, mlp_activation
from manyhands.families.values import Config, flag, whole
from manyhands.families.vision import Traits
from manyhands.families.vit import ATTENTION, EMBED

ARCHITECTURES = ("Model",)

BLOCK = {
    **ATTENTION,
    "attention_norm": "encoder.layer.{}.norm1",
    "attention_scale": "encoder.layer.{}.layer_scale1.lambda1!",
    "up": "encoder.layer.{}.mlp.fc1",
    "down": "encoder.layer.{}.mlp.fc2",
    "mlp_norm": "encoder.layer.{}.norm2",
    "mlp_scale": "encoder.layer.{}.layer_scale2.lambda1!",
}


def spec(config: Config) -> ModelSpec:
    """A DINOv2 for images of its `image_size`."""
    return shaped(config, "dinov2", 0)


def shaped(config: Config, family: str, registers: int) -> ModelSpec:
    """A DINOv2 with or without registers. Raises NotServed for the giant's gated MLP."""
    if flag(config, "use_swiglu_ffn"):
        raise NotServed("use_swiglu_ffn is not served; use a smaller DINOv2")
    inner = whole(config, "hidden_size") * whole(config, "mlp_ratio", 4)
    embed = {**EMBED, "registers": "embeddings.register_tokens!"}
    names = Names("dinov2", embed, BLOCK, {"norm": "layernorm"})
    mlp = Mlp("plain", mlp_activation(config, "hidden_act"), inner)
    return vision.encoder(config, Traits(family, names, mlp, eps=1e-6, registers=registers))
