"""A transformers model as a ModelSpec: which stored tensors each layer needs, what a session keeps.

Layers, names and shapes come from a skeleton without weights. What the blocks hand on and remember
is found by running that skeleton on shapes alone. Knows nothing of how a model is loaded or run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from manyhands.domain.model_spec import (
    LayerSpec,
    LayoutKind,
    ModelSpec,
    ModuleSpec,
    TensorSource,
)
from manyhands.engine import module_library as library
from manyhands.engine.module_cut import (
    OTHER_PROMPT,
    PROMPT,
    Mismatch,
    Plan,
    feed,
    ids_of,
    sized,
    watch,
)
from manyhands.engine.module_memory import Memory, elements, memory_of
from manyhands.engine.module_stage import Call, Cut, record
from manyhands.engine.module_tensors import width_of
from manyhands.errors import CheckpointError, NotServed

UNLIMITED = 32768
"""Tokens of a session for a model whose config names no limit (alibi, recurrent)."""

UNLIMITED_SOURCE = 4096
"""Tokens of a source under the same condition: its attention grows with their square."""

_LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_target_positions",
    "n_ctx",
    "seq_length",
    "context_length",
)

_SOURCE_LIMITS = ("max_encoder_position_embeddings", "max_source_positions", *_LIMITS)
_ANSWER_LIMITS = ("max_decoder_position_embeddings", *_LIMITS)

Shapes = Mapping[str, tuple[int, ...]]
"""Stored tensors by name."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is known of a model's blocks at its own size: `kept` is (a token, a session) each.

    `encoder` is how the encoder of an encoder-decoder is cut, whose blocks are the first in `kept`.
    """

    cut: Cut
    kept: tuple[tuple[int, int], ...]
    encoder: Cut | None = None

    def blocks(self, plan: Plan) -> list[str]:
        """The names of all blocks in the whole model, in order."""
        names = [] if plan.encoder is None or self.encoder is None else self.encoder.blocks
        read = [] if plan.encoder is None else [plan.encoder.full(name) for name in names]
        return [*read, *self.cut.blocks]


def spec_of(config: Mapping[str, Any], stored: Shapes, plan: Plan) -> ModelSpec:
    """The spec of the model that `config` describes and `stored` holds.

    Raises CheckpointError when tensors are missing or of no use, and what `architecture` raises.
    """
    made, described = library.architecture(config)
    skeleton = library.skeleton(made, described, torch.float32)
    sizes = sizes_of(library.as_text(config), plan)
    tables = _tables(skeleton, sizes, plan, stored)
    parts = [
        ModuleSpec("embed"),
        *(ModuleSpec("block", *kept) for kept in sizes.kept),
        ModuleSpec("head"),
    ]
    text = described.get_text_config(decoder=True)
    source = 0
    if plan.encoder is not None:
        read = described.get_text_config(encoder=True)
        source = _limit(read, _SOURCE_LIMITS, UNLIMITED_SOURCE)
    said = _limit(text, _ANSWER_LIMITS if source else _LIMITS, UNLIMITED)
    return ModelSpec(
        family=str(config.get("model_type")),
        width=width_of(sizes.cut.carried),
        vocabulary=int(text.vocab_size),
        context=source + said,
        layers=tuple(map(LayerSpec, parts, tables)),
        config=library.as_text(config),
        source=source,
    )


def _limit(config: Any, names: Sequence[str], otherwise: int) -> int:
    found = (getattr(config, name, None) for name in names)
    return next((limit for limit in found if isinstance(limit, int) and limit > 0), otherwise)


@lru_cache(maxsize=16)
def sizes_of(config: str, plan: Plan) -> Sizes:
    """What blocks hand on and keep, of a model by its config's text. Raises NotServed.

    A model whose forward looks at values outside of its experts cannot be run on shapes alone: it
    is run on zeros, which takes the time of two short prompts and the memory of one matrix.
    """
    made, described = library.architecture(json.loads(config))
    try:
        return _sizes(library.skeleton(made, described, torch.float32), plan, "meta")
    except Mismatch:
        zeros = library.skeleton(made, described, torch.float32)
        library.fill(zeros, {}, torch.float32)
    try:
        return _sizes(zeros, plan, "cpu")
    except Mismatch as fault:
        raise NotServed(f"{made.__name__} cannot be run in stages: {fault}") from fault


def _sizes(skeleton: Any, plan: Plan, device: str) -> Sizes:
    if plan.encoder is None:
        cut = _all_blocks(skeleton, plan)
        (short, _), (long, calls) = (
            _run(skeleton, cut, plan, tokens, device) for tokens in (OTHER_PROMPT, PROMPT)
        )
        return Sizes(_sized(cut, calls), tuple(map(_kept, short, long)))
    encoder = skeleton.get_submodule(plan.encoder.name)
    reading = _all_blocks(encoder, plan.encoder)
    reading = _sized(reading, _run(encoder, reading, plan.encoder, PROMPT, device)[1])
    cut = _all_blocks(skeleton, plan)
    source = torch.zeros(1, PROMPT, width_of(reading.carried), device=device)
    (short, _), (less, _), (long, calls) = (
        _run(skeleton, cut, plan, tokens, device, source[:, :read])
        for tokens, read in ((OTHER_PROMPT, OTHER_PROMPT), (OTHER_PROMPT, PROMPT), (PROMPT, PROMPT))
    )
    # a token is of the source or of what is said: the one that takes more is what each is taken for
    said, read = map(_kept, less, long), map(_kept, short, less)
    kept = [(max(one[0], other[0]), 0) for one, other in zip(said, read, strict=True)]
    return Sizes(_sized(cut, calls), (*[(0, 0)] * len(reading.blocks), *kept), reading)


def _all_blocks(model: nn.Module, plan: Plan) -> Cut:
    row = plan.cut.blocks[0].rpartition(".")[0]
    names = (f"{row}.{name}" for name, _ in model.get_submodule(row).named_children())
    return replace(plan.cut, blocks=tuple(names))


def _sized(cut: Cut, calls: Mapping[str, Call]) -> Cut:
    return replace(cut, carried=tuple(sized(one, calls[cut.blocks[1]]) for one in cut.carried))


def _kept(less: int, more: int) -> tuple[int, int]:
    """What is kept of a token, and of a session, of what is kept of two numbers of tokens."""
    a_token = max(0, -(-(more - less) // (PROMPT - OTHER_PROMPT)))
    return a_token, max(0, more - a_token * PROMPT)


class _LooksAtValues(Exception):  # caught here
    """A module that cannot be run on shapes alone."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.kind = kind


def _run(
    skeleton: nn.Module,
    cut: Cut,
    plan: Plan,
    tokens: int,
    device: str,
    source: Tensor | None = None,
) -> tuple[list[int], dict[str, Call]]:
    """Numbers that each block keeps of `tokens` tokens, and what it was called with.

    Modules that look at values (experts that gather their tokens) let their input through instead.
    """
    tried: set[type[nn.Module]] = set()
    while True:
        try:
            return _run_once(skeleton, cut, plan, tokens, device, source)
        except _LooksAtValues as found:
            if found.kind in tried:
                raise Mismatch(f"the sizes of its {found.kind.__name__} cannot be told") from found
            tried.add(found.kind)
            for module in skeleton.modules():
                if type(module) is found.kind:
                    module.forward = _let_through


def _let_through(*args: Any, **named: Any) -> Any:
    return next(iter((*args, *named.values())))


def _run_once(
    skeleton: nn.Module,
    cut: Cut,
    plan: Plan,
    tokens: int,
    device: str,
    source: Tensor | None,
) -> tuple[list[int], dict[str, Call]]:
    around = {"", *cut.blocks, *(above for name in cut.blocks for above in _above(name))}
    inside: list[str] = []
    held: list[int] = []

    def begins(name: str) -> None:
        inside.append(name)
        if name in cut.blocks:
            held.append(_elements(memory))

    def ends(name: str) -> None:
        inside.pop()
        if name in cut.blocks:
            held.append(_elements(memory) - held.pop())

    names = [name for name, _ in skeleton.named_modules() if name]
    with torch.device(device):
        memory = None if plan.memory is None else memory_of(skeleton.config, source is not None)
        given = feed(skeleton, plan, ids_of(0, tokens), 0, memory, source)
        try:
            calls = record(
                skeleton, cut.blocks, given, lambda fed: watch(skeleton, names, fed, begins, ends)
            )
        except Exception as fault:
            if device != "meta" or not inside or inside[-1] in around:
                raise Mismatch(f"its sizes cannot be told: {str(fault)[:200]}") from fault
            raise _LooksAtValues(type(skeleton.get_submodule(inside[-1]))) from fault
    return held, calls


def _elements(memory: Memory | None) -> int:
    return 0 if memory is None else sum(map(elements, memory.kept))


def _above(name: str) -> list[str]:
    """The modules that a module is inside of."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _tables(
    skeleton: Any, sizes: Sizes, plan: Plan, stored: Shapes
) -> list[dict[str, TensorSource]]:
    """For each layer its stored tensors by name; one that an earlier layer has is tied to that."""
    goes_into = library.module_names(skeleton, stored)
    comes_from: dict[str, list[str]] = {}
    for name, keys in goes_into.items():
        for key in keys:
            comes_from.setdefault(key, []).append(name)
    same = library.tied(skeleton)
    tables: list[dict[str, TensorSource]] = [{} for _ in range(len(sizes.kept) + 2)]
    seen: set[str] = set()
    for key, layers in _layers(skeleton, sizes, plan):
        names = comes_from.get(key) or comes_from.get(same.get(key, ""), [])
        others = [one for one, target in same.items() if target == key]
        names = names or [name for one in others for name in comes_from.get(one, [])]
        is_weight = key in dict(skeleton.named_parameters(remove_duplicate=False))
        if not names and is_weight and not library.is_computed(skeleton, key):
            raise CheckpointError(
                f"no tensor of the checkpoint goes into {key}; config.json and the weight files do "
                "not belong together or a file is missing; download the model again"
            )
        for layer, name in itertools.product(layers, names):
            is_shared = name in seen and name not in tables[layer]
            layout: LayoutKind = "tied" if is_shared else "plain"
            tables[layer].setdefault(name, TensorSource((name,), tuple(stored[name]), layout))
        seen |= set(names)
    for name, keys in goes_into.items():
        if not keys and not library.is_ignored(skeleton, name) and _is_of_a_block(name, sizes):
            raise CheckpointError(
                f"tensor {name!r} is not one that transformers reads, so the model would run "
                "wrong; is model_type right?"
            )
    return tables


def _is_of_a_block(name: str, sizes: Sizes) -> bool:
    rows = [cut.blocks[0].rpartition(".")[0] for cut in (sizes.cut, sizes.encoder) if cut]
    return any(f"{row.rpartition('.')[2]}." in name for row in rows)


def _layers(skeleton: nn.Module, sizes: Sizes, plan: Plan) -> list[tuple[str, list[int]]]:
    """Each weight that is used, and the layers that use it.

    What stands in front of either half's blocks is in layer 0, and what stands behind an encoder's
    in its last one: a stage hands on what the next block is given.
    """
    blocks = {name: place + 1 for place, name in enumerate(sizes.blocks(plan))}
    read = 0 if sizes.encoder is None else len(sizes.encoder.blocks)
    halves = [(plan, range(read + 1, len(blocks) + 1), len(blocks) + 1)]
    if plan.encoder is not None:
        halves.append((plan.encoder, range(1, read + 1), read))
    found: list[tuple[str, list[int]]] = []
    for key in skeleton.state_dict():
        block = next((blocks[name] for name in _above(key) if name in blocks), None)
        layers = set() if block is None else {block}
        for half, places, last in halves:
            if any(half.full(name) == key for name in half.lent):
                layers.update(places)
            if key in map(half.full, half.before):
                layers.add(0)
            if key in map(half.full, half.behind):
                layers.add(last)
        if layers:
            found.append((key, sorted(layers)))
    return sorted(found, key=lambda one: one[1])
