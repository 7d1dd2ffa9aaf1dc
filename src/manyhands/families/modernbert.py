"""ModernBERT: rotary positions, a gated MLP, windows in most blocks, each kind with its rope.

Reads no files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from manyhands.domain.model_spec import (
    BlockSpec,
    EmbedSpec,
    HeadSpec,
    LayerSpec,
    Mlp,
    ModelSpec,
    Norm,
    TensorSource,
)
from manyhands.errors import NotServed
from manyhands.families.encoder import both_ways, mlp_activation, prefix
from manyhands.families.layer_types import block_count
from manyhands.families.rope import rope
from manyhands.families.values import Config, flag, number, section, whole, words

ARCHITECTURES = ("Model", "ForMaskedLM")

THETAS = {
    "full_attention": ("global_rope_theta", 160000.0),
    "sliding_attention": ("local_rope_theta", 10000.0),
}
"""What older configs call the base of each kind's rope, and what it is if they do not say."""


def spec(config: Config) -> ModelSpec:
    """A ModernBERT. Its language head is not computed."""
    width, vocabulary = whole(config, "hidden_size"), whole(config, "vocab_size")
    context = whole(config, "max_position_embeddings", 8192, most=2**31)
    norm = Norm("layer", number(config, "norm_eps", 1e-5))
    kinds = _kinds(config)
    blocks = {kind: _block(config, kind, norm, context) for kind in set(kinds)}
    table = _Table(config, prefix(config, "model"), width)
    embed = {
        "tokens": TensorSource(
            (f"{table.prefix}embeddings.tok_embeddings.weight",), (vocabulary, width)
        ),
        **table.norm("norm", "embeddings.norm"),
    }
    return ModelSpec(
        family="modernbert",
        width=width,
        vocabulary=vocabulary,
        context=context,
        layers=(
            LayerSpec(EmbedSpec(vocabulary, norm=norm), embed),
            *(
                LayerSpec(blocks[kind], table.block(place, blocks[kind].mlp.width))
                for place, kind in enumerate(kinds)
            ),
            LayerSpec(HeadSpec(norm, "pool_mean", width), table.norm("norm", "final_norm")),
        ),
    )


def _kinds(config: Config) -> tuple[str, ...]:
    """Of each block whether it sees all tokens. Raises NotServed for another kind."""
    blocks = block_count(config)
    every = whole(config, "global_attn_every_n_layers", 3)
    kinds = words(config, "layer_types", blocks) or tuple(
        "sliding_attention" if place % every else "full_attention" for place in range(blocks)
    )
    unknown = set(kinds) - set(THETAS)
    if unknown:
        raise NotServed(f"layer_types {', '.join(sorted(unknown))} are not served for this family")
    return kinds


def _block(config: Config, kind: str, norm: Norm, context: int) -> BlockSpec:
    attention = both_ways(whole(config, "hidden_size"), whole(config, "num_attention_heads"))
    key, theta = THETAS[kind]
    said = {
        "rope_theta": number(config, key, theta, above=1.0),
        **section(section(config, "rope_parameters"), kind),
        **section(config, "rope_scaling"),  # of older configs; transformers lets it win
    }
    # half of `local_attention` to each side, beside the token itself; transformers lets the half be
    # said as `sliding_window`, too
    half = whole(config, "local_attention", 128, least=2) // 2
    window = whole(config, "sliding_window", half) + 1
    return BlockSpec(
        norm=norm,
        attention=replace(
            attention,
            window=window if kind == "sliding_attention" else None,
            rope=rope({"rope_parameters": said}, attention.head_dim, context),
        ),
        mlp=Mlp(
            "gated",
            mlp_activation(config, "hidden_activation"),
            whole(config, "intermediate_size", 1152),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """The tensors' names. Which of them have a bias, three switches say."""

    config: Config
    prefix: str
    width: int

    def norm(self, ours: str, theirs: str) -> dict[str, TensorSource]:
        """A norm."""
        found = {ours: TensorSource((f"{self.prefix}{theirs}.weight",), (self.width,))}
        if flag(self.config, "norm_bias"):
            found[f"{ours}.bias"] = TensorSource((f"{self.prefix}{theirs}.bias",), (self.width,))
        return found

    def block(self, place: int, inner: int) -> dict[str, TensorSource]:
        """A block; the first has no norm before its attention, the embedding's is that."""
        width, layer = self.width, f"layers.{place}"
        in_attention, in_mlp = flag(self.config, "attention_bias"), flag(self.config, "mlp_bias")
        return {
            **(self.norm("attention_norm", f"{layer}.attn_norm") if place else {}),
            **self._linear(f"{layer}.attn.Wqkv", width, in_attention, q=width, k=width, v=width),
            **self._linear(f"{layer}.attn.Wo", width, in_attention, o=width),
            **self.norm("mlp_norm", f"{layer}.mlp_norm"),
            **self._linear(f"{layer}.mlp.Wi", width, in_mlp, gate=inner, up=inner),
            **self._linear(f"{layer}.mlp.Wo", inner, in_mlp, down=width),
        }

    def _linear(self, path: str, into: int, has_bias: bool, **outs: int) -> dict[str, TensorSource]:
        """Matrices that lie under each other in one, and their biases."""
        found, first = {}, 0
        for ours, out in outs.items():
            last = first + out
            for name, ending, shape in (
                (ours, "weight", (out, into)),
                (f"{ours}.bias", "bias", (out,)),
            ):
                if ending == "weight" or has_bias:
                    full = f"{self.prefix}{path}.{ending}"
                    found[name] = (
                        TensorSource((full,), shape, "rows", first, last, sum(outs.values()))
                        if len(outs) > 1
                        else TensorSource((full,), shape)
                    )
            first = last
        return found
