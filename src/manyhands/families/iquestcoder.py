"""IQuest-Coder: a Llama that must not use the two switches of its first code. Reads no files."""

from __future__ import annotations

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import refuse
from manyhands.families.llama import llama
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """An IQuest-Coder."""
    refuse(config, clip_qkv="queries, keys and values cut off")
    refuse(config, use_sliding_window="windows")
    return build(llama(config, "iquestcoder"))
