"""Writes the model folder that is shipped: config, bf16 weights, tokenizer, how to generate."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import tokenizers

from recipes.storyteller import tokens
from recipes.storyteller.net import Net, exported


def export(net: Net, made: tokenizers.Tokenizer, folder: Path) -> None:
    """A folder as transformers and manyhands read it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens.save(made, folder, net.shape.context)
    _write(folder / "config.json", net.shape.config())
    generation = {
        "bos_token_id": tokens.STORY_ID,
        "eos_token_id": tokens.END_ID,
        "pad_token_id": tokens.PAD_ID,
        "do_sample": True,
        "temperature": 0.8,
    }
    _write(folder / "generation_config.json", generation)
    fresh = folder / "model.new"
    safetensors.torch.save_file(exported(net), fresh, metadata={"format": "pt"})
    fresh.chmod(0o644)
    fresh.replace(folder / "model.safetensors")


def _write(file: Path, values: dict[str, object]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
