"""A transformers model as a ModelSpec: which stored tensors each layer needs, what a session keeps.

Layers, names and shapes come from a skeleton without weights. What the blocks hand on and remember
is found by running that skeleton on shapes alone. Knows nothing of how a model is loaded or run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

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
from manyhands.engine.module_memory import ModuleMemory, state_elements
from manyhands.engine.module_stage import Call, Cut, record
from manyhands.engine.module_tensors import width_of
from manyhands.errors import CheckpointError, NotServed

UNLIMITED = 32768
"""Tokens of a session for a model whose config names no limit (alibi, recurrent)."""

_LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_target_positions",
    "n_ctx",
    "seq_length",
    "context_length",
)

Shapes = Mapping[str, tuple[int, ...]]
"""Stored tensors by name."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is known of a model's blocks at its own size: `kept` is (a token, a session) each."""

    cut: Cut
    kept: tuple[tuple[int, int], ...]


def spec_of(config: Mapping[str, Any], stored: Shapes, plan: Plan) -> ModelSpec:
    """The spec of the model that `config` describes and `stored` holds.

    Raises CheckpointError when tensors are missing or of no use, and what `architecture` raises.
    """
    made, described = library.architecture(config)
    skeleton = library.skeleton(made, described, torch.float32)
    sizes = sizes_of(library.as_text(config), plan)
    tables = _tables(skeleton, sizes.cut, plan, stored)
    parts = [
        ModuleSpec("embed"),
        *(ModuleSpec("block", *kept) for kept in sizes.kept),
        ModuleSpec("head"),
    ]
    text = described.get_text_config(decoder=True)
    return ModelSpec(
        family=str(config.get("model_type")),
        width=width_of(sizes.cut.carried),
        vocabulary=int(text.vocab_size),
        context=_context(text),
        layers=tuple(map(LayerSpec, parts, tables)),
        config=library.as_text(config),
    )


def _context(config: Any) -> int:
    found = (getattr(config, name, None) for name in _LIMITS)
    return next((limit for limit in found if isinstance(limit, int) and limit > 0), UNLIMITED)


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


def _sizes(skeleton: nn.Module, plan: Plan, device: str) -> Sizes:
    row = plan.cut.blocks[0].rpartition(".")[0]
    names = (f"{row}.{name}" for name, _ in skeleton.get_submodule(row).named_children())
    cut = replace(plan.cut, blocks=tuple(names))
    (short, _), (long, calls) = (
        _run(skeleton, cut, plan, tokens, device) for tokens in (OTHER_PROMPT, PROMPT)
    )
    kept = []
    for less, more in zip(short, long, strict=True):
        a_token = max(0, -(-(more - less) // (PROMPT - OTHER_PROMPT)))
        kept.append((a_token, max(0, more - a_token * PROMPT)))
    carried = tuple(sized(one, calls[cut.blocks[1]]) for one in cut.carried)
    return Sizes(replace(cut, carried=carried), tuple(kept))


class _LooksAtValues(Exception):  # caught here
    """A module that cannot be run on shapes alone."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.kind = kind


def _run(
    skeleton: nn.Module, cut: Cut, plan: Plan, tokens: int, device: str
) -> tuple[list[int], dict[str, Call]]:
    """Numbers that each block keeps of `tokens` tokens, and what it was called with.

    Modules that look at values (experts that gather their tokens) let their input through instead.
    """
    tried: set[type[nn.Module]] = set()
    while True:
        try:
            return _run_once(skeleton, cut, plan, tokens, device)
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
    skeleton: nn.Module, cut: Cut, plan: Plan, tokens: int, device: str
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
        memory = None if plan.memory is None else ModuleMemory(skeleton.config)
        given = feed(skeleton, plan, ids_of(0, tokens), 0, memory)
        try:
            calls = record(
                skeleton, cut.blocks, given, lambda fed: watch(skeleton, names, fed, begins, ends)
            )
        except Exception as fault:
            if device != "meta" or not inside or inside[-1] in around:
                raise Mismatch(f"its sizes cannot be told: {str(fault)[:200]}") from fault
            raise _LooksAtValues(type(skeleton.get_submodule(inside[-1]))) from fault
    return held, calls


def _elements(memory: ModuleMemory | None) -> int:
    return 0 if memory is None else sum(state_elements(memory.cache).values())


def _above(name: str) -> list[str]:
    """The modules that a module is inside of."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _tables(skeleton: Any, cut: Cut, plan: Plan, stored: Shapes) -> list[dict[str, TensorSource]]:
    """For each layer its stored tensors by name; one that an earlier layer has is tied to that."""
    goes_into = library.module_names(skeleton, stored)
    comes_from: dict[str, list[str]] = {}
    for name, keys in goes_into.items():
        for key in keys:
            comes_from.setdefault(key, []).append(name)
    same = library.tied(skeleton)
    tables: list[dict[str, TensorSource]] = [{} for _ in range(len(cut.blocks) + 2)]
    seen: set[str] = set()
    for key, layers in _layers(skeleton, cut, plan):
        names = comes_from.get(key) or comes_from.get(same.get(key, ""), [])
        others = [one for one, target in same.items() if target == key]
        names = names or [name for one in others for name in comes_from.get(one, [])]
        if not names and key in dict(skeleton.named_parameters(remove_duplicate=False)):
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
        if not keys and not library.is_ignored(skeleton, name) and _is_of_a_block(name, cut):
            raise CheckpointError(
                f"tensor {name!r} is not one that transformers reads, so the model would run "
                "wrong; is model_type right?"
            )
    return tables


def _is_of_a_block(name: str, cut: Cut) -> bool:
    row = cut.blocks[0].rpartition(".")[0].rpartition(".")[2]
    return f"{row}." in name


def _layers(skeleton: nn.Module, cut: Cut, plan: Plan) -> list[tuple[str, list[int]]]:
    """Each weight that is used, and the layers that use it."""
    blocks = {name: place + 1 for place, name in enumerate(cut.blocks)}
    row = cut.blocks[0].rpartition(".")[0]
    found: list[tuple[str, list[int]]] = []
    for key in skeleton.state_dict():
        block = next((b for b in _above(key) if b in blocks), None) if row in key else None
        if block is not None:
            found.append((key, [blocks[block]]))
            continue
        ends = [0] if key in plan.before else []
        if key in plan.behind:
            ends.append(len(blocks) + 1)
        if ends:
            found.append((key, ends))
    return sorted(found, key=lambda one: one[1])
