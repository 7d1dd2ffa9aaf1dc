"""ELECTRA: a BERT with a head of its own. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.errors import NotServed
from manyhands.families import encoder
from manyhands.families.bert import BLOCK, EMBED
from manyhands.families.encoder import Names, Traits
from manyhands.families.values import Config, whole

ARCHITECTURES = (*encoder.SERVED, "ForPreTraining")

HEAD = {"dense": "classifier.dense", "head": "classifier.out_proj"}


def spec(config: Config) -> ModelSpec:
    """An ELECTRA whose embedding is as wide as its blocks; the small ones are not."""
    width, narrow = whole(config, "hidden_size", 256), whole(config, "embedding_size", 128)
    if narrow != width:
        raise NotServed(
            f"embedding_size {narrow} beside hidden_size {width} is not served; use a model where "
            "they are the same, as electra-base"
        )
    names = Names("electra", EMBED, BLOCK, HEAD)
    types = whole(config, "type_vocab_size", 2)
    return encoder.encoder(config, Traits("electra", names, token_types=types, activation="gelu"))
