"""BERT and what was trained in its shape, as MiniLM: learned positions, token types. No files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families import encoder
from manyhands.families.encoder import Names, Traits
from manyhands.families.values import Config, whole

ARCHITECTURES = encoder.SERVED

EMBED = {
    "tokens": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
BLOCK = {
    "q": "encoder.layer.{}.attention.self.query",
    "k": "encoder.layer.{}.attention.self.key",
    "v": "encoder.layer.{}.attention.self.value",
    "o": "encoder.layer.{}.attention.output.dense",
    "attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "up": "encoder.layer.{}.intermediate.dense",
    "down": "encoder.layer.{}.output.dense",
    "mlp_norm": "encoder.layer.{}.output.LayerNorm",
}
HEAD = {"dense": "bert.pooler.dense", "head": "classifier"}


def spec(config: Config) -> ModelSpec:
    """A BERT. Its pooler (a dense layer over the first token) is part of a classifier only."""
    names = Names("bert", EMBED, BLOCK, HEAD)
    types = whole(config, "type_vocab_size", 2)
    return encoder.encoder(config, Traits("bert", names, token_types=types))
