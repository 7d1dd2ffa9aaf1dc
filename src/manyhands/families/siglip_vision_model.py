"""SigLIP's tower for images: patches without a class token. Reads no files.

Its last step, attention from a learned probe, is not computed: it gives a vector for each patch.
"""

from __future__ import annotations

from manyhands.domain.model_spec import Mlp, ModelSpec
from manyhands.families import vision
from manyhands.families.encoder import Names, mlp_activation
from manyhands.families.values import Config, whole
from manyhands.families.vision import Traits

ARCHITECTURES = ("VisionModel",)

EMBED = {
    "patches": "embeddings.patch_embedding",
    "positions": "embeddings.position_embedding",
}
BLOCK = {
    "q": "encoder.layers.{}.self_attn.q_proj",
    "k": "encoder.layers.{}.self_attn.k_proj",
    "v": "encoder.layers.{}.self_attn.v_proj",
    "o": "encoder.layers.{}.self_attn.out_proj",
    "attention_norm": "encoder.layers.{}.layer_norm1",
    "up": "encoder.layers.{}.mlp.fc1",
    "down": "encoder.layers.{}.mlp.fc2",
    "mlp_norm": "encoder.layers.{}.layer_norm2",
}


def spec(config: Config) -> ModelSpec:
    """The tower by itself, as transformers 5 saves it."""
    return tower(config, "siglip_vision_model", "")


def tower(config: Config, family: str, prefixed: str) -> ModelSpec:
    """The tower of `config`, whose tensors' names begin with `prefixed`."""
    names = Names("", EMBED, BLOCK, {"norm": "post_layernorm"})
    activation = mlp_activation(config, "hidden_act", "gelu_pytorch_tanh")
    mlp = Mlp("plain", activation, whole(config, "intermediate_size", 3072))
    filled = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, **config}
    return vision.encoder(
        filled,
        Traits(
            family,
            names,
            mlp,
            eps=1e-6,
            pool="none",
            class_token=False,
            prefixed=prefixed,
        ),
    )
