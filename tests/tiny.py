"""Makes tiny random real checkpoints and a tiny tokenizer on the fly, written by transformers.

    folder = tiny.make("llama-yarn", tmp_path / "m")  # config.json, safetensors, tokenizer
    tiny.make("qwen2-tied", tmp_path / "m", dtype="bfloat16")  # same weights, rounded
    tiny.oracle(folder)  # the transformers model, eval mode

Every case has 6 blocks, width 64, 320 tokens or images of 32 x 32 pixels and, but for one and the
encoders, fewer kv heads than heads. Norm weights and biases are random too, so that one forgotten
is noticed. The same case has the same bytes.
Knows nothing of manyhands.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

transformers.utils.logging.disable_progress_bar()

WIDTH, BLOCKS, VOCABULARY, HEADS, KV_HEADS, INNER, CONTEXT = 64, 6, 320, 4, 2, 96, 512


@dataclass(frozen=True)
class Case:
    """One checkpoint: transformers' config class without `Config`, and what differs from BASE."""

    family: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    max_shard_bytes: int | None = None
    architecture: str = "ForCausalLM"
    base: Mapping[str, Any] = field(default_factory=lambda: BASE)

    @property
    def model_type(self) -> str:
        return self.family.lower()

    @property
    def made_by(self) -> Any:
        """transformers' class of the model."""
        return getattr(transformers, self.family + self.architecture)


BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}


def _rope(rope_type: str, theta: float = 10000.0, **values: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": theta, **values}}


_LLAMA3 = _rope(
    "llama3",
    500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
_YARN = _rope("yarn", factor=4.0, original_max_position_embeddings=128)
_ALTERNATING = ["full_attention", "sliding_attention"] * (BLOCKS // 2)

CASES: dict[str, Case] = {
    "llama": Case("Llama"),
    "llama-tied": Case("Llama", {"tie_word_embeddings": True}),
    "llama-llama3": Case("Llama", _LLAMA3),
    "llama-linear": Case("Llama", _rope("linear", factor=4.0)),
    "llama-yarn": Case("Llama", _YARN),
    "llama-dynamic": Case("Llama", _rope("dynamic", factor=2.0)),
    "llama-bias": Case("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-head-dim": Case("Llama", {"head_dim": 24}),
    "llama-all-heads": Case("Llama", {"num_key_value_heads": HEADS}),
    "llama-sharded": Case("Llama", {}, max_shard_bytes=150_000),
    "mistral": Case("Mistral", {"sliding_window": None}),
    "mistral-window": Case("Mistral", {"sliding_window": 8}),
    "mistral-head-dim": Case("Mistral", {"sliding_window": None, "head_dim": 24}),
    "qwen2": Case("Qwen2", _rope("default", 1000000.0)),
    "qwen2-tied": Case("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": Case(
        "Qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}
    ),
    "qwen2-layer-types": Case(
        "Qwen2", {"use_sliding_window": True, "sliding_window": 8, "layer_types": _ALTERNATING}
    ),
    "qwen2-yarn": Case("Qwen2", _YARN),
    "qwen3": Case("Qwen3", {"head_dim": 32}),
    "qwen3-tied-bias": Case(
        "Qwen3", {"head_dim": 16, "tie_word_embeddings": True, "attention_bias": True}
    ),
    "qwen3-window": Case(
        "Qwen3",
        {
            "head_dim": 16,
            "use_sliding_window": True,
            "sliding_window": 8,
            "layer_types": _ALTERNATING,
        },
    ),
}
"""Every kind of model that families/ serves, by a name that says what is special about it."""


TEXT = {name: value for name, value in BASE.items() if name != "num_key_value_heads"}
IMAGE = {name: value for name, value in TEXT.items() if name not in ("vocab_size", "bos_token_id")}
IMAGE = {**IMAGE, "image_size": 32, "patch_size": 8, "num_channels": 3}
DISTILBERT = {
    **{name: TEXT[name] for name in ("vocab_size", "max_position_embeddings", "pad_token_id")},
    "dim": WIDTH,
    "n_heads": HEADS,
    "n_layers": BLOCKS,
    "hidden_dim": INNER,
}


def _encoder(family: str, architecture: str = "Model", **changes: Any) -> Case:
    return Case(family, changes, architecture=architecture, base=TEXT)


def _image(family: str, architecture: str = "Model", **changes: Any) -> Case:
    return Case(family, changes, architecture=architecture, base=IMAGE)


_CLASSES = {"id2label": {0: "a", 1: "b", 2: "c"}}
_BIASES = {"attention_bias": True, "mlp_bias": True, "norm_bias": True}

TEXT_ENCODERS: dict[str, Case] = {
    "bert": _encoder("Bert"),
    "bert-masked": _encoder("Bert", "ForMaskedLM", hidden_act="gelu_new"),
    "bert-classes": _encoder("Bert", "ForSequenceClassification", **_CLASSES),
    "roberta": _encoder("Roberta", type_vocab_size=1),
    "roberta-classes": _encoder("Roberta", "ForSequenceClassification", **_CLASSES),
    "xlm-roberta": _encoder("XLMRoberta", pad_token_id=1),
    "camembert": _encoder("Camembert"),
    "electra": _encoder("Electra", embedding_size=WIDTH),
    "electra-classes": _encoder("Electra", "ForSequenceClassification", embedding_size=WIDTH),
    "distilbert": Case("DistilBert", architecture="Model", base=DISTILBERT),
    "distilbert-classes": Case(
        "DistilBert", architecture="ForSequenceClassification", base=DISTILBERT
    ),
    "modernbert": _encoder("ModernBert", local_attention=16),
    "modernbert-masked": _encoder("ModernBert", "ForMaskedLM", local_attention=8, **_BIASES),
}
"""Encoders of texts."""

IMAGE_ENCODERS: dict[str, Case] = {
    "vit": _image("ViT"),
    "vit-classes": _image("ViT", "ForImageClassification", qkv_bias=False, **_CLASSES),
    "dinov2": _image("Dinov2", mlp_ratio=2),
    "dinov2-registers": _image("Dinov2WithRegisters", mlp_ratio=2, num_register_tokens=3),
    "siglip-vision": _image("SiglipVision", image_size=37),
    "siglip": Case(
        "Siglip",
        {"vision_config": IMAGE, "text_config": {**TEXT, "num_hidden_layers": 1}},
        architecture="Model",
        base={},
    ),
}
"""Encoders of images."""

ENCODERS = {**TEXT_ENCODERS, **IMAGE_ENCODERS}


def _case(name: str) -> Case:
    return CASES.get(name) or ENCODERS[name]


def config(case: str) -> transformers.PretrainedConfig:
    """The transformers config of a case."""
    made = _case(case)
    return getattr(transformers, f"{made.family}Config")(**{**made.base, **made.changes})


def model(case: str, seed: int = 0) -> transformers.PreTrainedModel:
    """The transformers model of a case in float32, every parameter random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = _case(case).made_by._from_config(config(case), dtype=torch.float32)
        with torch.no_grad():
            for name, weight in built.named_parameters():
                if "norm" in name.lower() or "lambda" in name:
                    weight.copy_(1.0 + 0.3 * torch.randn_like(weight))
                elif name.endswith("bias"):
                    weight.copy_(0.3 * torch.randn_like(weight))
                else:  # wide enough that scores of different tokens are far apart
                    weight.copy_(1.5 * torch.randn_like(weight) / weight.shape[-1] ** 0.5)
    return built.eval()


def make(case: str, folder: Path, dtype: str = "float32", seed: int = 0) -> Path:
    """Write the case's checkpoint and the tiny tokenizer into `folder` (made if need be)."""
    built = model(case, seed).to(getattr(torch, dtype))
    built.config.dtype = getattr(torch, dtype)
    limit = _case(case).max_shard_bytes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers speaks of its own deprecations
        built.save_pretrained(folder, **({} if limit is None else {"max_shard_size": limit}))
    make_tokenizer(folder)
    return folder


def oracle(folder: Path, attention: str = "eager") -> transformers.PreTrainedModel:
    """What transformers reads back from `folder`, in the dtype it was saved in."""
    (named,) = json.loads((folder / "config.json").read_text("utf-8"))["architectures"]
    made = getattr(transformers, named)
    return made.from_pretrained(folder, dtype="auto", attn_implementation=attention).eval()


SENTENCES = (
    "Many hands make light work. Once upon a time there was a small swarm of devices.",
    "The quick brown fox jumps over the lazy dog; the dog does not mind at all.",
    "Grüße aus Köln, où l'été est très doux — naïve café, jalapeño, señor, 2 × 3 = 6.",
    "東京は夜の七時です。 Привет, мир! 你好,世界 🙂🚀👩‍👩‍👧 tokens and bytes.",
    "def add(first, last):\n    return first + last  # indentation matters\n",
)
CHAT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' -%}
    {{ bos_token + '<|system|>' + messages[0]['content'] | trim + '<|end|>' }}
    {%- set messages = messages[1:] -%}
{%- else -%}
    {{ bos_token }}
{%- endif -%}
{% for message in messages %}
    {%- if message['role'] not in ['user', 'assistant'] -%}
        {{ raise_exception('no such role: ' + message['role']) }}
    {%- endif -%}
    {{ '<|' + message['role'] + '|>' + message['content'] }}
    {%- if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '<|end|>' }}{% endif %}
{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}
"""
SPECIALS = ("<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""In this order from id 0, so that bos, eos and pad are the ids BASE says."""


def make_tokenizer(folder: Path) -> Path:
    """Write tokenizer.json and tokenizer_config.json: byte-level BPE, at most VOCABULARY tokens."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        SENTENCES * 3,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=list(SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), "utf-8")
    return folder
