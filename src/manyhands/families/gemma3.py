"""Gemma 3 as published, with its eyes: its language model is run, texts only. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import refuse
from manyhands.families.gemma3_text import text
from manyhands.families.values import Config, section

ARCHITECTURES = ("ForCausalLM", "Gemma3ForConditionalGeneration")
"""The second is served for its text."""

_UNSAID = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
}
"""What the published files leave out."""


def spec(config: Config) -> ModelSpec:
    """The language model inside a Gemma 3; what is not said of it is as Gemma 3 has it."""
    inside = {**_UNSAID, **section(config, "text_config")}
    refuse(inside, final_logit_softcapping="a softcap of logits, which is not in this form of it")
    if config.get("tie_word_embeddings") is not None:
        inside["tie_word_embeddings"] = config["tie_word_embeddings"]
    made = text(inside, "gemma3")
    names = replace(
        made.names,
        tokens="language_model.model.embed_tokens",
        blocks="language_model.model.layers",
        norm="language_model.model.norm",
        head="language_model.lm_head",
    )
    return build(replace(made, names=names))
