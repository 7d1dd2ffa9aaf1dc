"""llama.cpp beside us: the same weights as a GGUF file, asked through `llama-bench`.

Where `llama-bench` is not on the PATH there is no such side. The file is written with llama.cpp's
own Python package, `gguf`. Rows of queries and keys keep the order of transformers, which llama.cpp
wants otherwise: its texts would be others, its work is the same.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers

KINDS = {"fp32": "F32", "bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
"""Of llama.cpp, by our form. As in ours, the vocabulary of Q4_0 is Q8_0."""

VOCABULARY = ("token_embd.weight", "output.weight")


def missing() -> str:
    """Why there is no such side; nothing if there is."""
    if shutil.which("llama-bench") is None:
        return "llama-bench is not on the PATH"
    if find_spec("gguf") is None:
        return "llama-bench is here, but gguf, which writes its files, is not: pip install gguf"
    return ""


def write(folder: Path, form: str, file: Path) -> None:
    """A Llama of transformers as GGUF. Without a tokenizer: llama-bench speaks in numbers."""
    import gguf

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = model.config
    to = gguf.GGUFWriter(file, "llama")
    to.add_context_length(config.max_position_embeddings)
    to.add_embedding_length(config.hidden_size)
    to.add_block_count(config.num_hidden_layers)
    to.add_feed_forward_length(config.intermediate_size)
    to.add_head_count(config.num_attention_heads)
    to.add_head_count_kv(config.num_key_value_heads)
    to.add_key_length(config.head_dim)
    to.add_value_length(config.head_dim)
    to.add_rope_dimension_count(config.head_dim)
    to.add_layer_norm_rms_eps(config.rms_norm_eps)
    to.add_vocab_size(config.vocab_size)
    to.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        due = names.get_name(name, try_suffixes=(".weight",))
        kind = "F32" if tensor.dim() == 1 else KINDS[form]
        kind = "Q8_0" if kind == "Q4_0" and due in VOCABULARY else kind
        chosen = gguf.GGMLQuantizationType[kind]
        to.add_tensor(due, gguf.quants.quantize(tensor.numpy(), chosen), raw_dtype=chosen)
    to.write_header_to_file()
    to.write_kv_data_to_file()
    to.write_tensors_to_file()
    to.close()


class LlamaCpp:
    """One file, and so many threads. Each question is a process of its own, that warms up."""

    def __init__(self, file: Path, threads: int) -> None:
        self._words = ["llama-bench", "-m", str(file), "-t", str(threads), "-r", "1", "-o", "json"]

    def token_s(self, tokens: int) -> float:
        """Seconds a token, of the next so many."""
        return self._seconds("-p", "0", "-n", str(tokens))

    def prompt_s(self, tokens: int) -> float:
        """Seconds of a whole prompt."""
        return tokens * self._seconds("-p", str(tokens), "-n", "0")

    def _seconds(self, *words: str) -> float:
        done = subprocess.run([*self._words, *words], capture_output=True, text=True, check=True)
        (told,) = json.loads(done.stdout)
        return 1 / told["avg_ts"]
