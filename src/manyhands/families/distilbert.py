"""DistilBERT: a BERT without token types, under names of its own. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families import encoder
from manyhands.families.encoder import Names, Traits
from manyhands.families.values import Config

ARCHITECTURES = encoder.SERVED

EMBED = {
    "tokens": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
}
BLOCK = {
    "q": "transformer.layer.{}.attention.q_lin",
    "k": "transformer.layer.{}.attention.k_lin",
    "v": "transformer.layer.{}.attention.v_lin",
    "o": "transformer.layer.{}.attention.out_lin",
    "attention_norm": "transformer.layer.{}.sa_layer_norm",
    "up": "transformer.layer.{}.ffn.lin1",
    "down": "transformer.layer.{}.ffn.lin2",
    "mlp_norm": "transformer.layer.{}.output_layer_norm",
}
HEAD = {"dense": "pre_classifier", "head": "classifier"}

IN_BERTS_WORDS = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}


def spec(config: Config) -> ModelSpec:
    """A DistilBERT. Its norms have one eps, which no config says."""
    said = {ours: config.get(theirs) for ours, theirs in IN_BERTS_WORDS.items()}
    traits = Traits("distilbert", Names("distilbert", EMBED, BLOCK, HEAD), activation="relu")
    return encoder.encoder({**config, **said, "layer_norm_eps": 1e-12}, traits)
