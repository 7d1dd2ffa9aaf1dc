"""A span of a model run by the model's own forward: blocks that are elsewhere let through.

What was received takes the place of what the first block of the span is given; in front of the
first block behind the span the forward is left. What is shipped are so the *inputs* of a block, and
whatever the model does between two blocks is done by the stage before. Masks, rotary positions and
memory are the model's own. Knows nothing of checkpoints, sessions or transformers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from manyhands.engine.module_tensors import Arguments, Carried, replaced, tensors_of

_BIAS, _HAS_BIAS = "relative_attention_bias", "has_relative_attention_bias"


@dataclass(frozen=True, slots=True)
class Cut:
    """How a model is cut between its blocks, the same at every place.

    `blocks` are the names of its blocks in order. `carried` goes into each block: the hidden state
    first, then what no stage behind can make itself. `given` is how many things a block returns,
    the hidden state first; None for the hidden state alone.
    """

    blocks: tuple[str, ...]
    carried: tuple[Carried, ...]
    given: int | None


class _Left(Exception):  # no error: the way out of a forward
    """The forward is left; `carried` is what the next stage needs."""

    def __init__(self, carried: dict[str, Tensor]) -> None:
        super().__init__()
        self.carried = carried


@dataclass(frozen=True, slots=True)
class Onward:
    """What a stage hands on: tensors by the paths that carried names; behind the last block the
    hidden state alone.
    """

    tensors: dict[str, Tensor]


class Stage:
    """`model`, whose forward is changed for good, run over any range of the blocks of `cut`."""

    def __init__(self, model: nn.Module, cut: Cut) -> None:
        self.model, self.cut = model, cut
        self._first, self._last = -1, len(cut.blocks) + 1
        self._received: Mapping[str, Tensor] = {}
        self._sides: Mapping[str, Tensor] = {}
        lend(model, cut.blocks)
        for place, name in enumerate(cut.blocks):
            block = model.get_submodule(name)
            block.forward = self._forward(place, block.forward)

    def run(
        self, received: Mapping[str, Tensor] | None, given: Arguments, first: int, last: int
    ) -> Any:
        """An Onward for the next stage, or what the whole model returns.

        Blocks [first, last) are at work; `first` below 0 means that what stands in front of them is
        as well, `last` above the number of blocks what stands behind. `received` comes from the
        stage before; `given` is what the whole model is called with.
        """
        self._first, self._last = first, last
        self._received = received or {}
        hidden = self.cut.carried[0].path
        self._sides = {path: one for path, one in self._received.items() if path != hidden}
        args, kwargs = given
        try:
            return self.model(*args, **kwargs)
        except _Left as left:
            return Onward(left.carried)
        finally:
            self._received, self._sides = {}, {}

    def _forward(self, place: int, own: Callable[..., Any]) -> Callable[..., Any]:
        """What the block at `place` does. What stands behind is given what the last returns."""
        blocks, hidden = len(self.cut.blocks), self.cut.carried[0].path

        def forward(*args: Any, **kwargs: Any) -> Any:
            arguments: Arguments = (args, kwargs)
            if place == self._last:
                found = tensors_of(replaced(arguments, self._sides))
                raise _Left({one.path: found[one.path] for one in self.cut.carried})
            if self._first <= place < self._last:
                taken = self._received if place == self._first else self._sides
                args, kwargs = replaced(arguments, taken)
                given = own(*args, **kwargs)
            else:
                is_head_alone = place == blocks - 1 and self._first == blocks
                given = (self._received if is_head_alone else tensors_of(arguments))[hidden]
                if self.cut.given is not None:
                    given = (given, *[None] * (self.cut.given - 1))
            if place == blocks - 1 and self._last == blocks:
                raise _Left({hidden: given if isinstance(given, Tensor) else given[0]})
            return given

        forward.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
        return forward


def lent(model: nn.Module, blocks: Sequence[str]) -> dict[str, nn.Module]:
    """Modules of the first block that make what all blocks use, by their names in the model.

    So T5 does it: the bias of relative positions has a side for queries and one for keys, which is
    no row a token, but whoever has its few weights can make it.
    """
    return {
        f"{blocks[0]}.{name}.{_BIAS}": module.get_submodule(_BIAS)
        for name, module in model.get_submodule(blocks[0]).named_modules()
        if getattr(module, _HAS_BIAS, False)
        and any(not getattr(_same(model, block, name), _HAS_BIAS) for block in blocks[1:])
    }


def lend(model: nn.Module, blocks: Sequence[str]) -> None:
    """Give every block these modules: the first at work makes what those behind it are given."""
    for full, module in lent(model, blocks).items():
        name = full.removeprefix(f"{blocks[0]}.").removesuffix(f".{_BIAS}")
        for block in blocks[1:]:
            borrower = _same(model, block, name)
            setattr(borrower, _HAS_BIAS, True)
            setattr(borrower, _BIAS, module)


def _same(model: nn.Module, block: str, name: str) -> nn.Module:
    return model.get_submodule(f"{block}.{name}")


@dataclass(frozen=True, slots=True)
class Call:
    """What a block was called with and what it returned; None if it was left."""

    arguments: Arguments
    returned: Any


def record(
    model: nn.Module,
    names: Sequence[str],
    given: Arguments,
    run: Callable[[Arguments], Any] | None = None,
) -> dict[str, Call]:
    """Run a whole model, or what `run` runs of it, and keep the calls of the modules named."""
    calls: dict[str, Call] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            frozen = {path: one.clone() for path, one in tensors_of((args, kwargs)).items()}
            calls[name] = Call(replaced((args, kwargs), frozen), None)

        return hook

    def end(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, returned: Any) -> None:
            calls[name] = replace(calls[name], returned=returned)

        return hook

    hooks = []
    for name in names:
        module = model.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(keep(name), with_kwargs=True))
        hooks.append(module.register_forward_hook(end(name)))
    try:
        with torch.inference_mode():
            model(*given[0], **given[1]) if run is None else run(given)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
