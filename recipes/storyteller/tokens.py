"""The storyteller's own tokenizer: byte-level BPE over generated stories, and its chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

STORY, END, ASK, PAD = "<|story|>", "<|end|>", "<|ask|>", "<|pad|>"
SPECIALS = (PAD, STORY, END, ASK)
"""In this order from id 0."""

VOCABULARY = 2048
PAD_ID, STORY_ID, END_ID, ASK_ID = range(4)

PIECES = (
    r"'(?:s|t|re|ve|m|ll|d)(?!\p{L})"
    r"|\p{Lu}\p{Ll}*"
    r"| ?[^\s\p{L}\p{N}]+ ?(?=\p{Lu})"
    r"| ?(?!\p{Lu})\p{L}+"
    r"| ?\p{N}"
    r"| ?[^\s\p{L}\p{N}]+"
    r"|\s+(?=\p{Lu})"
    r"|\s+(?!\S)"
    r"|\s+"
)
"""How text is cut before merging. The space before a capital stands apart, so that a name is the
same tokens after a space, a quotation mark and a full stop: then it can be copied."""

CHAT_TEMPLATE = (
    "{%- set asked = messages | selectattr('role', 'equalto', 'user') | list -%}"
    "{%- if asked -%}{{ '<|ask|>' + (asked | last)['content'] | trim }}{%- endif -%}"
    "{%- if add_generation_prompt -%}{{ '<|story|>' }}{%- endif -%}"
)
"""The last thing a person said is the ask; earlier stories are not remembered."""


def train(texts: Iterable[str], size: int = VOCABULARY) -> tokenizers.Tokenizer:
    """A tokenizer for any text (bytes it has not seen stay bytes). The same texts give the same."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    made.post_processor = processors.TemplateProcessing(
        single=f"{STORY} $A", special_tokens=[(STORY, STORY_ID)]
    )
    return made


def save(made: tokenizers.Tokenizer, folder: Path, context: int) -> None:
    """Write tokenizer.json and tokenizer_config.json as transformers and we read them."""
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": STORY,
        "eos_token": END,
        "pad_token": PAD,
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(settings, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, "utf-8")
