"""RoBERTa: a BERT whose positions begin behind the padding token's id. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families import encoder
from manyhands.families.bert import BLOCK, EMBED
from manyhands.families.encoder import Names, Traits
from manyhands.families.values import Config, whole

ARCHITECTURES = encoder.SERVED

HEAD = {"dense": "classifier.dense", "head": "classifier.out_proj"}


def spec(config: Config) -> ModelSpec:
    """A RoBERTa."""
    return shaped(config, "roberta")


def shaped(config: Config, family: str) -> ModelSpec:
    """A model of RoBERTa's shape and names, of another family."""
    return encoder.encoder(
        config,
        Traits(
            family,
            Names("roberta", EMBED, BLOCK, HEAD),
            position_offset=whole(config, "pad_token_id", 1, least=0) + 1,
            token_types=whole(config, "type_vocab_size", 2),
        ),
    )
