"""Where a transformers model may be cut, found by watching a tiny twin of it at work.

Its blocks are the row of modules that are called one after the other. What a stage needs beside the
hidden state is found by comparing what blocks receive in the whole twin and in a stage of it. Which
weights stand in front of the blocks and which behind is told by when they are used. Nothing found
here is trusted before module_proof has tried it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from manyhands.engine.module_memory import Memory
from manyhands.engine.module_stage import Call, Cut, Stage, lent, record
from manyhands.engine.module_tensors import Arguments, Carried, tensors_of, width_of

PROMPT, OTHER_PROMPT, SOURCE = 9, 6, 12
"""Two lengths: what differs between them counts tokens. The first is above a twin's window. And
that of the source which a decoder is tried with, another one.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How models of one architecture are run in stages.

    `memory` is what their forward calls the cache, None for a model that has none. `has_positions`
    says that positions are passed on, `by_token` that a text is gone on with by single tokens only,
    since the model forgets its state before several. `before` and `behind` are the weights used in
    front of the blocks and behind them, `lent` those of the first block that all blocks need.

    An encoder-decoder's plan is its decoder's, and `encoder` is that of the encoder, which is the
    module called `name`, names its own modules from there, and `returns` so.
    """

    cut: Cut
    memory: str | None = None
    has_positions: bool = False
    by_token: bool = False
    before: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    lent: frozenset[str] = frozenset()
    encoder: Plan | None = None
    name: str = ""
    returns: type[Any] = dict

    def full(self, name: str) -> str:
        """The name in the whole model of what this plan names."""
        return f"{self.name}.{name}" if self.name else name


class Mismatch(Exception):  # becomes a NotServed that names the model
    """The twin cannot be cut, and why."""


def ids_of(first: int, last: int) -> Tensor:
    """Token ids [1, T] that differ from their neighbours, all below 200."""
    return torch.tensor([[(7 * place + 3) % 190 + 8 for place in range(first, last)]])


def feed(
    model: nn.Module,
    plan: Plan,
    ids: Tensor,
    position: int,
    memory: Memory | None,
    source: Tensor | None = None,
) -> Arguments:
    """What the forward is called with for tokens [1, T] at `position`.

    A decoder is given beside them what its encoder made of the `source`, [1, S, D].
    """
    given: dict[str, Any] = {"input_ids": ids, "return_dict": True}
    if source is not None and plan.encoder is not None:
        encoded = plan.encoder.returns(last_hidden_state=source)
        given = {"decoder_input_ids": ids, "encoder_outputs": encoded, "return_dict": True}
    if plan.has_positions:
        given["position_ids"] = torch.arange(position, position + ids.shape[1])[None]
    if memory is not None and plan.memory is not None:
        given |= {plan.memory: memory.cache, "use_cache": True}
    elif "use_cache" in inspect.signature(model.forward).parameters:
        given["use_cache"] = False
    return (), given


def is_encoder_decoder(made: type[nn.Module]) -> bool:
    """Whether models of this class read a source text with one row of blocks and say another."""
    return "decoder_input_ids" in inspect.signature(made.forward).parameters


def find(twin: nn.Module, has_positions: bool) -> Plan:
    """A plan for models like `twin`, whose weights are real. Raises Mismatch."""
    if is_encoder_decoder(type(twin)):
        return _find_halves(twin)
    takes = inspect.signature(twin.forward).parameters
    if has_positions and "position_ids" not in takes:
        raise Mismatch("takes no position_ids")
    memory = next((name for name in ("past_key_values", "cache_params") if name in takes), None)
    if memory is not None and not _keeps_memory(twin, memory):
        memory = None
    return _found(twin, Plan(Cut((), (), None), memory, has_positions))


def _find_halves(twin: Any) -> Plan:
    encoder = twin.get_encoder()
    empty = Cut((), (), None)
    _, given = feed(encoder, Plan(empty), ids_of(0, SOURCE), 0, None)
    with torch.inference_mode():
        read = encoder(**given)
    source = read.last_hidden_state
    name = next(name for name, module in twin.named_modules() if module is encoder)
    reading = _found(encoder, Plan(empty, name=name, returns=type(read)))
    plan = _found(twin, Plan(empty, "past_key_values", encoder=reading), source)
    if {width_of(reading.cut.carried), source.shape[-1]} != {width_of(plan.cut.carried)}:
        raise Mismatch("its encoder's rows and its decoder's are not of one width")
    return plan


def _found(model: nn.Module, plan: Plan, source: Tensor | None = None) -> Plan:
    """The plan with its cut, and the weights around the blocks."""
    long, short = (feed(model, plan, ids_of(0, n), 0, None, source) for n in (PROMPT, OTHER_PROMPT))
    blocks = find_blocks(model, long)
    calls, other = record(model, blocks, long), record(model, blocks, short)
    hidden = _carried(_hidden_path(calls[blocks[0]]), calls[blocks[0]], other[blocks[0]])
    first = calls[blocks[0]].returned
    given = None if isinstance(first, Tensor) else len(first)
    before, behind = around(model, blocks, long)
    modules = lent(model, blocks)
    weights = {f"{name}.{one}" for name, made in modules.items() for one in made.state_dict()}
    cut = Cut(tuple(blocks), (hidden,), given)
    more = [
        _carried(path, calls[blocks[len(blocks) // 2]], other[blocks[len(blocks) // 2]])
        for path in sides(model, before | behind, cut, calls, long)
    ]
    return replace(
        plan,
        cut=replace(cut, carried=(hidden, *more)),
        before=before,
        behind=behind,
        lent=frozenset(weights),
    )


@torch.inference_mode()
def _keeps_memory(twin: nn.Module, memory: str) -> bool:
    """Whether its forward gives a cache that says what it holds (encoders give None)."""
    given = twin(input_ids=ids_of(0, OTHER_PROMPT), use_cache=True, return_dict=True).get(memory)
    if given is not None and not hasattr(given, "layers"):
        raise Mismatch(f"its memory is a {type(given).__name__}, which cannot be cut")
    return given is not None


def find_blocks(model: nn.Module, given: Arguments) -> list[str]:
    """The names of the modules that a forward calls one after the other, each once: the spine.

    Of several rows (experts in a block, say) the one with the most weights. Raises Mismatch.
    """
    rows = {
        name: [f"{name}.{child}".lstrip(".") for child, _ in module.named_children()]
        for name, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1
    }
    order: list[str] = []
    names = [child for children in rows.values() for child in children]
    watch(model, names, given, lambda name: order.append(name), lambda _: None)
    in_a_row = [
        children
        for children in rows.values()
        if [child for child in order if child in set(children)] == children
    ]
    if not in_a_row:
        called = [name for name, children in rows.items() if set(children) & set(order)]
        what = f"{called[0]} is not called in a row" if called else "no row of modules is called"
        raise Mismatch(f"no spine: {what}")
    return max(in_a_row, key=lambda names: sum(_weights(model, name) for name in names))


def _weights(model: nn.Module, name: str) -> int:
    return sum(weight.numel() for weight in model.get_submodule(name).parameters())


@torch.inference_mode()
def watch(
    model: nn.Module,
    names: Sequence[str],
    given: Arguments,
    begins: Callable[[str], object],
    ends: Callable[[str], object],
) -> None:
    """Run the model and tell when each of the modules named begins and ends."""
    hooks = []
    for name in names:
        module = model.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: _told(begins, name)))
        hooks.append(module.register_forward_hook(lambda *_, name=name: _told(ends, name)))
    try:
        model(*given[0], **given[1])
    finally:
        for hook in hooks:
            hook.remove()


def _told(tell: Callable[[str], object], name: str) -> None:
    tell(name)  # a hook that returned something would replace what it was told of


def _hidden_path(call: Call) -> str:
    """The hidden state: the first tensor of numbers with a point."""
    for path, tensor in tensors_of(call.arguments).items():
        if tensor.is_floating_point():
            return path
    raise Mismatch("its blocks take no hidden state")


def _carried(path: str, call: Call, other: Call) -> Carried:
    """A tensor as it is carried. Raises Mismatch if not exactly one side counts tokens."""
    one = tensors_of(call.arguments).get(path)
    two = tensors_of(other.arguments).get(path)
    if one is None or two is None or one.dim() != two.dim() or not one.is_floating_point():
        raise Mismatch(f"its blocks need {path}, which cannot be shipped")
    sides = [place for place, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b]
    if len(sides) != 1 or one.shape[sides[0]] != PROMPT:
        raise Mismatch(f"its blocks need {path} {list(one.shape)}, which is not a row a token")
    shape = tuple(size for place, size in enumerate(one.shape) if place != sides[0])
    return Carried(path, sides[0], shape)


def sized(carried: Carried, call: Call) -> Carried:
    """The same tensor in a model of other sizes. Raises Mismatch if it is not there."""
    tensor = tensors_of(call.arguments).get(carried.path)
    if tensor is None:
        raise Mismatch(f"its blocks take no {carried.path}")
    shape = tuple(size for place, size in enumerate(tensor.shape) if place != carried.tokens_side)
    return Carried(carried.path, carried.tokens_side, shape)


def around(
    model: nn.Module, blocks: Sequence[str], given: Arguments
) -> tuple[frozenset[str], frozenset[str]]:
    """The weights used in front of the blocks, and behind them.

    A weight belongs to the innermost module around it that is called. One of a module around the
    blocks, say of the model itself, may be used on both sides. Raises Mismatch for weights used
    between two blocks.
    """
    inside = tuple(f"{name}." for name in blocks)
    outer = {"", *(name.rpartition(".")[0] for name in blocks)}
    for name in blocks:
        while name := name.rpartition(".")[0]:
            outer.add(name)
    passed: list[str] = []
    called: dict[str, set[str]] = {}

    def begins(name: str) -> None:
        behind = "behind" if len(passed) == len(blocks) else "between" if passed else "before"
        called.setdefault(name, set()).add(behind)

    names = [n for n, _ in model.named_modules() if n and not n.startswith(inside)]
    watch(model, names, given, begins, lambda name: passed.append(name) if name in blocks else None)
    before, behind = set(), set()
    for name in model.state_dict():
        if name.startswith(inside):
            continue
        owner = name.rpartition(".")[0]
        while owner not in outer and owner not in called:
            owner = owner.rpartition(".")[0]
        when = {"before", "behind"} if owner in outer else called[owner]
        if owner in outer and owner != name.rpartition(".")[0]:
            continue  # of a module that is never called: nobody needs it
        if "between" in when:
            raise Mismatch(f"{name} is used between its blocks")
        before |= {name} if "before" in when else set()
        behind |= {name} if "behind" in when else set()
    return frozenset(before), frozenset(behind)


def sides(
    model: nn.Module, others: Collection[str], cut: Cut, calls: Mapping[str, Call], given: Arguments
) -> list[str]:
    """What blocks receive otherwise in a stage that starts in the middle, but for the hidden state.

    `calls` are those of the whole model, `others` the weights that such a stage lacks. Where the
    first block of a stage makes by itself what it is not given, only those behind it are compared.
    """
    blocks, hidden = cut.blocks, cut.carried[0].path
    first = len(blocks) // 2
    compared = blocks[first + 1 :] if lent(model, blocks) else blocks[first:]
    stage = Stage(_without(model, others), cut)
    received = {hidden: tensors_of(calls[blocks[first]].arguments)[hidden]}
    seen = record(
        stage.model,
        blocks[first:],
        given,
        lambda given: stage.run(received, given, first, len(blocks)),
    )
    paths: dict[str, None] = {}
    for name in compared:
        mine = tensors_of(seen[name].arguments)
        for path, tensor in tensors_of(calls[name].arguments).items():
            if path != hidden and (path not in mine or not torch.equal(mine[path], tensor)):
                paths[path] = None
    return list(paths)


def _without(model: nn.Module, names: Collection[str]) -> nn.Module:
    """A copy of a model with zeros for some of its weights; the others are shared."""
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(weight.new_zeros(()).expand(weight.shape), requires_grad=False)
        if name in names
        else weight
        for name, weight in model.named_parameters(remove_duplicate=False)
    }
    return copy.deepcopy(model, memo)


def scores_of(out: Any) -> Tensor:
    """The scores, or the hidden states of a model without a head. Raises Mismatch."""
    for name in ("logits", "last_hidden_state"):
        if out.get(name) is not None:
            found: Tensor = out[name]
            return found
    raise Mismatch(f"it returns {', '.join(out)}, no scores")
