"""Arcee (AFM): a Llama with a plain MLP of squared ReLUs. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.families.building import build
from manyhands.families.decoder import activation
from manyhands.families.llama import llama
from manyhands.families.values import Config


def spec(config: Config) -> ModelSpec:
    """An Arcee."""
    made = llama(config, "arcee")
    return build(replace(made, mlp="plain", activation=activation(config, "hidden_act", "relu2")))
