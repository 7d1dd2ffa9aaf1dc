"""CodeGen: a GPT-J whose q, v, k lie four times a quarter in one matrix. Reads no files."""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import ModelSpec
from manyhands.errors import CheckpointError
from manyhands.families.building import build
from manyhands.families.decoder import Names
from manyhands.families.gptj import gptj
from manyhands.families.values import Config

QUARTERS = 4
"""The cores it was trained on; part of the format."""


def spec(config: Config) -> ModelSpec:
    """A CodeGen."""
    made = gptj(config, "codegen", Names(qkv="attn.qkv_proj", o="attn.out_proj"))
    if made.heads % QUARTERS:
        raise CheckpointError(
            f"config: n_head is {made.heads}; CodeGen needs a multiple of {QUARTERS}"
        )
    return build(replace(made, qkv_runs=QUARTERS, qkv_order=("q", "v", "k")))
