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
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import tiny_decoders
from tiny_decoders import DECODERS, PLUS_ONE

transformers.utils.logging.disable_progress_bar()

WIDTH, BLOCKS, VOCABULARY, HEADS, KV_HEADS, INNER, CONTEXT = 64, 6, 320, 4, 2, 96, 512


@dataclass(frozen=True)
class Case:
    """One checkpoint: transformers' config class without `Config`, and what differs from BASE."""

    family: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    max_shard_bytes: int | None = None
    architecture: str = ""
    base: Mapping[str, Any] = field(default_factory=lambda: BASE)

    @property
    def model_type(self) -> str:
        return getattr(transformers, f"{self.family}Config").model_type

    @property
    def made_by(self) -> Any:
        """transformers' class of the model; without an `architecture` its language model."""
        with_head = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        named = self.family + self.architecture if self.architecture else with_head[self.model_type]
        return getattr(transformers, named)


EYES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
"""The vision tower of a model that is run without it."""

ORACLES = {"falcon": "sdpa"}
"""Whose attention to believe, by model type. transformers 5.23 adds Falcon's alibi twice in eager
attention: with the mask, and once more by itself."""

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

_MANY = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LATENT = {
    **_MANY,
    "num_key_value_heads": HEADS,
    "n_routed_experts": 8,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 10,
    "first_k_dense_replace": 1,
}
_DEEPSEEK_YARN = _rope(
    "yarn", factor=4.0, original_max_position_embeddings=128, mscale=0.7, mscale_all_dim=1.3
)

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
    "mixtral": Case("Mixtral", {"num_local_experts": 4}),
    "mixtral-window": Case("Mixtral", {"num_local_experts": 3, "sliding_window": 8}),
    "qwen3_moe": Case("Qwen3Moe", {**_MANY, "num_experts": 6, "head_dim": 32}),
    "qwen3_moe-some": Case(
        "Qwen3Moe",
        {
            **_MANY,
            "num_experts": 4,
            "head_dim": 16,
            "norm_topk_prob": True,
            "mlp_only_layers": [1],
            "decoder_sparse_step": 2,
            "use_sliding_window": True,
            "sliding_window": 8,
        },
    ),
    "gpt_oss": Case(
        "GptOss",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 16,
            "sliding_window": 8,
            "swiglu_limit": 0.7,
        },
    ),
    "deepseek_v3": Case("DeepseekV3", {**_LATENT, "n_group": 4, "topk_group": 2}),
    "deepseek_v3-yarn": Case(
        "DeepseekV3",
        {
            **_LATENT,
            **_DEEPSEEK_YARN,
            "q_lora_rank": None,
            "n_group": 1,
            "topk_group": 1,
            "rope_interleave": False,
            "attention_bias": True,
            "norm_topk_prob": False,
            "n_shared_experts": 2,
        },
    ),
    "qwen2_moe": Case(
        "Qwen2Moe", {**_MANY, "num_experts": 4, "shared_expert_intermediate_size": 40}
    ),
    "olmoe": Case("Olmoe", {"num_experts": 4, "num_experts_per_tok": 3, "norm_topk_prob": True}),
    "granitemoe": Case(
        "GraniteMoe",
        {
            "num_local_experts": 4,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.2,
            "logits_scaling": 4.0,
            "tie_word_embeddings": True,
        },
    ),
    "deepseek_v2": Case(
        "DeepseekV2",
        {
            **_LATENT,
            **_DEEPSEEK_YARN,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 1.5,
        },
    ),
    "dots1": Case(
        "Dots1",
        {
            **_MANY,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 2,
            "sliding_window": 8,
            "max_window_layers": 4,
        },
    ),
}
"""Llama and its nearest kin, by a name that says what is special about it."""

SPEAKERS: dict[str, Case] = {**CASES, **{name: Case(*said) for name, said in DECODERS.items()}}
"""Every kind of language model that families/ serves."""

SLOW = tiny_decoders.SLOW
"""Cases that only `make test-all` checks."""


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

ALL = {**SPEAKERS, **ENCODERS}
"""Every kind of model that families/ serves."""


def config(case: str) -> transformers.PretrainedConfig:
    """The transformers config of a case."""
    made = ALL[case]
    values = {**made.base, **made.changes}
    if made.family == "Gemma3":
        values = {"text_config": values, "vision_config": EYES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of token ids outside so small a vocabulary
        return getattr(transformers, f"{made.family}Config")(**values)


def model(case: str, seed: int = 0) -> transformers.PreTrainedModel:
    """The transformers model of a case in float32, every parameter random."""
    norms = 0.0 if ALL[case].family.startswith(PLUS_ONE) else 1.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = ALL[case].made_by._from_config(config(case), dtype=torch.float32)
        with torch.no_grad():
            for name, weight in built.named_parameters():
                if name.endswith("bias"):
                    weight.copy_(0.3 * torch.randn_like(weight))
                elif weight.dim() == 1:
                    weight.copy_(norms + 0.3 * torch.randn_like(weight))
                elif name.endswith("proj") and "gpt_oss" in case:  # experts, stored the other way
                    weight.copy_(1.5 * torch.randn_like(weight) / weight.shape[-2] ** 0.5)
                else:  # wide enough that scores of different tokens are far apart
                    weight.copy_(1.5 * torch.randn_like(weight) / weight.shape[-1] ** 0.5)
            for name, buffer in built.named_buffers():
                if name.endswith("correction_bias"):
                    buffer.copy_(0.3 * torch.randn_like(buffer))
    return built.eval()


def make(
    case: str, folder: Path, dtype: str = "float32", seed: int = 0, is_stacked: bool = False
) -> Path:
    """Write the case's checkpoint and the tiny tokenizer into `folder` (made if need be).

    Experts have a tensor each where their family's files do, or with `is_stacked` lie in stacks.
    """
    built = model(case, seed).to(getattr(torch, dtype))
    built.config.dtype = getattr(torch, dtype)
    limit = ALL[case].max_shard_bytes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers speaks of its own deprecations
        form = {} if limit is None else {"max_shard_size": limit}
        built.save_pretrained(folder, save_original_format=not is_stacked, **form)
    make_tokenizer(folder)
    return folder


def oracle(folder: Path, attention: str | None = None) -> transformers.PreTrainedModel:
    """What transformers reads back from `folder`, in the dtype it was saved in."""
    said = json.loads((folder / "config.json").read_text("utf-8"))
    if attention is None:
        attention = ORACLES.get(said["model_type"], "eager")
    (named,) = said["architectures"]
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
