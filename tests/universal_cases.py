"""Tiny random checkpoints of architectures without family file, and what transformers says of them.

folder = make("qwen3_next", tmp_path / "m")  # config.json, safetensors, tokenizer
says(oracle(folder), prompt, 32)             # scores of every token, cached step by step
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers.models.auto import modeling_auto

import tiny
from manyhands.domain.ids import SessionId
from manyhands.domain.span import Span
from manyhands.engine import module_proof, torch_modules
from manyhands.engine.choice import spec_of
from manyhands.engine.engine import Chunk
from manyhands.engine.module_twin import tiny as small
from manyhands.store.checkpoint import Checkpoint

ENCODERS = {"ernie": "ErnieForMaskedLM"}
READERS = ("t5", "umt5", "t5gemma", "switch_transformers", "bart", "marian", "m2m_100")
"""Encoder-decoders, with both halves."""

NEVER_ENDING = {"eos_token_id": None, "forced_eos_token_id": None, "decoder_start_token_id": 3}
PROMPT = tuple((7 * place + 3) % 190 + 8 for place in range(13))
OTHER = tuple((5 * place + 1) % 180 + 9 for place in range(6))


def with_slow(kinds: Sequence[str], slow: Sequence[str]) -> list[object]:
    """Parameters of a test; these kinds are tried by `make test-all` only."""
    return [pytest.param(kind, marks=[pytest.mark.slow] * (kind in slow)) for kind in kinds]


def config_of(kind: str, **changes):
    default = transformers.CONFIG_MAPPING[kind]()
    name = ENCODERS.get(kind) or modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if kind in READERS:
        name = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES[kind]
        changes = NEVER_ENDING | changes
    return {**small(default.to_dict()), "architectures": [name], **changes}


def make(kind: str, folder: Path, seed: int = 0, **changes) -> Path:
    config = config_of(kind, **changes)
    cls = getattr(transformers, config["architectures"][0])
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers speaks of its own deprecations
        torch.manual_seed(seed)
        described = transformers.CONFIG_MAPPING[kind].from_dict(config)
        built = cls._from_config(described, dtype=torch.float32).eval()
        with torch.no_grad():
            for weight in built.parameters():
                if weight.dim() > 1:
                    weight.copy_(torch.randn_like(weight) / weight.shape[-1] ** 0.5)
                else:
                    weight.add_(0.1 * torch.randn_like(weight))
        built.save_pretrained(folder)
    tiny.make_tokenizer(folder)
    return folder


def oracle(folder: Path):
    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cls.from_pretrained(folder, dtype=torch.float32).eval()


@torch.inference_mode()
def says(model, prompt: Sequence[int], steps: int) -> list[np.ndarray]:
    """Scores [T, V] of the prompt, then [1, V] of each token that is best, fed back."""
    ids, cache, given = list(prompt), None, []
    name = next(n for n in ("past_key_values", "cache_params", "") if n in [*_takes(model), ""])
    for _ in range(steps + 1):
        more = {name: cache} if cache is not None else {}
        use = {"use_cache": True} if name else {}
        out = model(input_ids=torch.tensor([ids]), return_dict=True, **use, **more)
        given.append(out.logits[0].numpy())
        cache = out.get(name) if name else None
        ids = [int(given[-1][-1].argmax())]
    return given


@torch.inference_mode()
def reads(model, source: Sequence[int], begins: Sequence[int], steps: int) -> list[np.ndarray]:
    """The same of an encoder-decoder that reads `source`: its answer begins with some tokens."""
    encoded = model.get_encoder()(input_ids=torch.tensor([source]), return_dict=True)
    ids, cache, given = list(begins), None, []
    for _ in range(steps + 1):
        out = model(
            encoder_outputs=encoded,
            decoder_input_ids=torch.tensor([ids]),
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        )
        given.append(out.logits[0].numpy())
        cache, ids = out.past_key_values, [int(given[-1][-1].argmax())]
    return given


def _takes(model):
    import inspect

    return inspect.signature(model.forward).parameters


class Stages:
    """A folder's engines over touching spans, as a route would call them."""

    def __init__(self, folder: Path, cuts: Sequence[int], kv_bytes: int = 1 << 26) -> None:
        self.checkpoint = Checkpoint.open(folder, spec_of)
        self.checkpoint.check()
        spec = self.checkpoint.spec
        plan = module_proof.plan_of(self.checkpoint.config)
        ends = [0, *cuts, len(spec.layers)]
        self.engines = [
            torch_modules.load(spec, Span(a, b), self.checkpoint.read, kv_bytes=kv_bytes, plan=plan)
            for a, b in pairwise(ends)
        ]

    def open(self, name: SessionId, limit: int, parent=None, at: int = 0) -> None:
        for engine in self.engines:
            engine.open(name, limit, parent, at)

    def step(self, *parts: tuple[SessionId, int, Sequence[int]]) -> list[np.ndarray]:
        hidden = [None] * len(parts)
        for engine in self.engines:
            chunks = [
                Chunk(name, position, tuple(tokens), given, tuple(range(len(tokens))))
                for (name, position, tokens), given in zip(parts, hidden, strict=True)
            ]
            outputs = engine.step(chunks)
            hidden = [output.hidden for output in outputs]
        return [output.scores for output in outputs]

    def read(self, name: SessionId, source: Sequence[int]) -> None:
        """The source of an encoder-decoder's session."""
        hidden = None
        for engine in self.engines:
            hidden = engine.step([Chunk(name, 0, tuple(source), hidden, ())])[0].hidden

    def forward(self, tokens: Sequence[int]) -> np.ndarray:
        hidden = None
        for engine in self.engines:
            output = engine.forward(tokens, hidden)
            hidden = output.hidden
        return output.scores

    def close(self, name: SessionId) -> None:
        for engine in self.engines:
            with contextlib.suppress(KeyError):
                engine.close(name)
