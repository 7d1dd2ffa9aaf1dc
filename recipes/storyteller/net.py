"""The network that is trained: a Llama in few lines, its weights named as transformers names them.

Matrices that transformers keeps apart (queries, keys and values; gate and up) are one here, which
is faster to train; `exported` takes them apart. A batch holds one whole document a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model."""

    vocabulary: int = 2048
    width: int = 256
    inner: int = 512
    blocks: int = 9
    heads: int = 8
    kv_heads: int = 4
    context: int = 1024
    theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Numbers of one head."""
        return self.width // self.heads

    def config(self) -> dict[str, object]:
        """What config.json says of it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context,
            "rope_theta": self.theta,
            "rms_norm_eps": self.eps,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "attention_bias": False,
            "mlp_bias": False,
            "initializer_range": 0.02,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "dtype": "bfloat16",
        }


class Block(nn.Module):
    """One pre-norm block: rotary grouped attention and a gated MLP."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, kv_width = shape.width, shape.kv_heads * shape.head_dim
        self.attention_norm = nn.RMSNorm(width, shape.eps)
        self.qkv = nn.Linear(width, width + 2 * kv_width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, shape.eps)
        self.gate_up = nn.Linear(width, 2 * shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rows of hidden states (rows, length, width), and the same again."""
        shape = self.shape
        rows, length, width = x.shape
        heads = self.qkv(self.attention_norm(x)).view(rows, length, -1, shape.head_dim)
        heads = heads.transpose(1, 2)
        turned = shape.heads + shape.kv_heads
        qk, v = _turn(heads[:, :turned], cos, sin), heads[:, turned:]
        q, k = qk[:, : shape.heads], qk[:, shape.heads :]
        group = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        mixed = _attend(q, k, v.to(q.dtype))
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


class Net(nn.Module):
    """Tokens (rows, length) -> scores (rows, length, vocabulary)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.RMSNorm(shape.width, shape.eps)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                is_last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * shape.blocks) ** 0.5 if is_last else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of every next token."""
        cos, sin = _angles(self.shape, tokens.shape[1], tokens.device)
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        return functional.linear(self.norm(x), self.embed.weight)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.is_cuda:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    # On a CPU the way back through bf16 attention takes twice as long as through fp32.
    with torch.autocast("cpu", enabled=False):
        q, k, v = q.float(), k.float(), v.float()
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def _angles(shape: Shape, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    steps = torch.arange(0, shape.head_dim, 2, device=device, dtype=torch.float32)
    speeds = shape.theta ** (-steps / shape.head_dim)
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), speeds)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    swapped = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.to(x.dtype) + swapped * sin.to(x.dtype)


def exported(net: Net) -> dict[str, Tensor]:
    """The weights in bf16, named and cut as in transformers' Llama checkpoints."""
    shape = net.shape
    kv_width = shape.kv_heads * shape.head_dim
    found = {"model.embed_tokens.weight": net.embed.weight, "model.norm.weight": net.norm.weight}
    for index, block in enumerate(net.blocks):
        prefix = f"model.layers.{index}"
        q, k, v = block.qkv.weight.split((shape.width, kv_width, kv_width))
        gate, up = block.gate_up.weight.chunk(2)
        found |= {
            f"{prefix}.input_layernorm.weight": block.attention_norm.weight,
            f"{prefix}.self_attn.q_proj.weight": q,
            f"{prefix}.self_attn.k_proj.weight": k,
            f"{prefix}.self_attn.v_proj.weight": v,
            f"{prefix}.self_attn.o_proj.weight": block.out.weight,
            f"{prefix}.post_attention_layernorm.weight": block.mlp_norm.weight,
            f"{prefix}.mlp.gate_proj.weight": gate,
            f"{prefix}.mlp.up_proj.weight": up,
            f"{prefix}.mlp.down_proj.weight": block.down.weight,
        }
    return {name: w.detach().to("cpu", torch.bfloat16).contiguous() for name, w in found.items()}
