"""spread_modules: runs any nn.Module with a sequential spine in stages, forward only.

The spine is found by watching the module at work, and the stages are tried beside the whole before
anything is spread. A module's inputs come as one side tensor and go along with the hidden state,
since what stands around the blocks may look at them. Knows nothing of peers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from manyhands.domain.ids import SessionId, digest, short
from manyhands.domain.model_spec import LayerSpec, ModelSpec, ModuleSpec, TensorSource
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span, even_cuts
from manyhands.engine.engine import Chunk, Hidden, Output
from manyhands.engine.module_cut import Mismatch, around, find_blocks, sides
from manyhands.engine.module_rows import from_row, to_row
from manyhands.engine.module_stage import Cut, Onward, Stage, record
from manyhands.engine.module_tensors import Arguments, Carried, replaced, tensors_of
from manyhands.errors import NotServed, ProtocolError, SessionUnknown, UserError

INPUT = "input"
"""The side tensor that holds what the module is called with."""


@dataclass(frozen=True, slots=True)
class Spine:
    """A module that can be run in stages. `given` and `returned` are an example of a call.

    `before` and `behind` are the weights in front of its blocks and behind.
    """

    module: nn.Module
    cut: Cut
    before: frozenset[str]
    behind: frozenset[str]
    given: Arguments
    returned: Any

    def row(self, given: Arguments) -> Hidden:
        """What the module is called with as one row. Raises UserError for another kind of call."""
        mine, theirs = tensors_of(self.given), tensors_of(given)
        if list(mine) != list(theirs):
            raise UserError(
                f"the module was spread for calls with {', '.join(mine) or 'no tensors'}, this one "
                f"has {', '.join(theirs) or 'none'}: spread it again"
            )
        return to_row(list(theirs.values()))

    def value(self, row: Hidden) -> Any:
        """What the module returns, of the last stage's row. Raises ProtocolError."""
        paths = list(tensors_of(((self.returned,), {})))
        tensors = from_row(row)
        if len(tensors) != len(paths):
            raise ProtocolError(f"{len(tensors)} tensors came back where {len(paths)} were due")
        filled, _ = replaced(((self.returned,), {}), dict(zip(paths, tensors, strict=True)))
        return filled[0]


def find(module: nn.Module, given: Arguments, stages: int) -> Spine:
    """The module's spine, tried in `stages` stages on an example of its call.

    Raises NotServed with the reason for a module whose blocks are not called one after the other,
    or whose stages give another result than the whole.
    """
    if module.training:
        raise NotServed("the module is in training mode, where dropout differs: call .eval() first")
    _check_weights(module)
    try:
        spine = _found(module, given)
        _try(spine, min(stages, len(spine.cut.blocks) + 2))
    except Mismatch as fault:
        raise NotServed(
            f"{type(module).__name__} cannot be spread: {fault}; only a module whose blocks stand "
            "in one nn.Sequential or nn.ModuleList and are called one after the other can be"
        ) from fault
    return spine


@torch.inference_mode()
def _found(module: nn.Module, given: Arguments) -> Spine:
    returned = module(*given[0], **given[1])
    blocks = find_blocks(module, given)
    calls = record(module, blocks, given)
    hidden = next(iter(tensors_of(calls[blocks[0]].arguments)), None)
    if hidden is None or not tensors_of(((returned,), {})):
        raise Mismatch("it or its blocks are given or return no tensor")
    first = calls[blocks[0]].returned
    count = None if isinstance(first, Tensor) else len(first)
    cut = Cut(tuple(blocks), (Carried(hidden, 0, ()),), count)
    before, behind = around(module, blocks, given)
    more = sides(module, before | behind, cut, calls, given)
    carried = (*cut.carried, *(Carried(path, 0, ()) for path in more))
    return Spine(module, Cut(cut.blocks, carried, count), before, behind, given, returned)


def _check_weights(module: nn.Module) -> None:
    for name, weight in [*module.named_parameters(), *module.named_buffers()]:
        if weight.dtype == torch.float64:
            raise NotServed(f"{name} is float64, which is not sent exactly: call .float() first")


def _try(spine: Spine, stages: int) -> None:
    spec = spec_of(spine)
    row: Any = spine.row(spine.given)
    for place, span in enumerate(even_cuts(len(spec.layers), stages)):
        row = load(spine, spec, span).run(span, *((None, row) if place == 0 else (row, None)))
    mine = tensors_of(((spine.value(row),), {}))
    for path, tensor in tensors_of(((spine.returned,), {})).items():
        if not _is_close(mine[path], tensor):
            raise Mismatch("its stages give another result than the whole module")


def _is_close(one: Tensor, other: Tensor) -> bool:
    """Equal, but for what kernels round."""
    if one.shape != other.shape or not other.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def on_start() -> Callable[[], None]:
    """Sets as many threads in a compute thread as there are here: kernels round by their number."""
    threads = torch.get_num_threads()
    return lambda: torch.set_num_threads(threads)


def spec_of(spine: Spine) -> ModelSpec:
    """The module as a row of layers: what stands in front of the blocks, these, what stands behind.

    A weight that several layers use is tied to the first of them.
    """
    shapes = {
        name: tuple(weight.shape)
        for name, weight in [
            *spine.module.named_parameters(remove_duplicate=False),
            *spine.module.named_buffers(remove_duplicate=False),
        ]
    }
    seen: set[str] = set()
    layers = []
    for role, names in _names(spine, shapes):
        table = {
            name: TensorSource((name,), shapes[name], "tied" if name in seen else "plain")
            for name in names
        }
        seen |= set(names)
        layers.append(LayerSpec(ModuleSpec(role), table))
    return ModelSpec(type(spine.module).__name__.lower(), 1, 1, 1, tuple(layers))


def _names(spine: Spine, shapes: Mapping[str, Any]) -> list[tuple[Any, list[str]]]:
    blocks = [
        ("block", [name for name in shapes if name.startswith(f"{block}.")])
        for block in spine.cut.blocks
    ]
    front = [name for name in shapes if name in spine.before]
    behind = [name for name in shapes if name in spine.behind]
    return [("embed", front), *blocks, ("head", behind)]


def identity(spine: Spine) -> str:
    """A name for the module, from its class, its weights' names and some of their numbers."""
    told = {
        name: [list(weight.shape), float(weight.detach().double().sum()) if weight.numel() else 0.0]
        for name, weight in spine.module.named_parameters()
    }
    return digest("spread-module", [type(spine.module).__name__, repr(told)])


def profile(name: str) -> Profile:
    """The numeric form of what a spread module computes: its own."""
    return Profile(
        weights=name,
        weight_format="module",
        arithmetic="the module's own",
        kernels=f"module-own-1-{torch.__version__}",
        wire_codec="fp32",
        row_invariant=False,
        tolerance=0.0,
    )


def load(spine: Spine, spec: ModelSpec, span: Span) -> SpreadEngine:
    """An engine over a copy of the module that has the weights of its span and zeros elsewhere.

    The weights themselves are the module's: peers of one process share them.
    """
    kept = {name for layer in spec.layers[span.first : span.last] for name in layer.tensors}
    memo: dict[int, Any] = {}
    size = 0
    for name, weight in spine.module.named_parameters(remove_duplicate=False):
        if name in kept:
            memo[id(weight)] = weight
            size += weight.nbytes
    for _, weight in spine.module.named_parameters():
        nothing = nn.Parameter(weight.new_zeros(()).expand(weight.shape), requires_grad=False)
        memo.setdefault(id(weight), nothing)
    return SpreadEngine(Stage(copy.deepcopy(spine.module, memo), spine.cut), spine, span, size)


class SpreadEngine:
    """An Engine (see engine.py) that remembers nothing: a step is a whole call of the module.

    The first stage takes the side tensor `input`; a chunk's one row is whatever goes along.
    """

    def __init__(self, stage: Stage, spine: Spine, span: Span, weight_bytes: int) -> None:
        self._stage, self._spine, self._span = stage, spine, span
        self._weight_bytes = weight_bytes
        self._spans: dict[SessionId, Span] = {}

    @property
    def span(self) -> Span:
        """The layers this engine holds."""
        return self._span

    @property
    def weight_bytes(self) -> int:
        """Bytes its weights take in memory."""
        return self._weight_bytes

    def open(
        self,
        session: SessionId,
        limit: int,  # noqa: ARG002  # nothing is remembered
        parent: SessionId | None = None,
        at: int = 0,
        span: Span | None = None,
    ) -> None:
        """Begin a session. Raises UserError for a span that is not held and for a fork."""
        span = self._span if span is None else span
        if not self._span.covers(span):
            raise UserError(f"span {span} is not held here, {self._span} is; check the route")
        if parent is not None or at:
            raise UserError("a call of a module has nothing to share; open it empty")
        self._spans[session] = span

    def close(self, session: SessionId) -> None:
        """Forget a session; unknown ones are no error."""
        self._spans.pop(session, None)

    def step(self, batch: Sequence[Chunk]) -> list[Output]:
        """Run each call by itself."""
        outputs = []
        for chunk in batch:
            if chunk.session not in self._spans:
                raise SessionUnknown(f"session {short(chunk.session)} is not open here")
            row = self.run(self._spans[chunk.session], chunk.hidden, chunk.side.get(INPUT))
            outputs.append(Output(row))
        return outputs

    @torch.inference_mode()
    def run(self, span: Span, received: Hidden | None, given: Hidden | None) -> Hidden:
        """The row for the next stage, of the row received, or, at the first, of the call's own.

        Raises UserError for a row that does not fit the module.
        """
        if (given if span.first == 0 else received) is None:
            raise UserError(f"span {span} was given no row to run; check the route")
        inputs = list(tensors_of(self._spine.given))
        carried = [one.path for one in self._stage.cut.carried]
        behind = span.first == len(self._stage.cut.blocks) + 1
        names = inputs if span.first == 0 else [*inputs, *(carried[:1] if behind else carried)]
        tensors = from_row(np.asarray(given if span.first == 0 else received))
        if len(tensors) != len(names):
            raise UserError(f"{len(tensors)} tensors came where {len(names)} are due")
        call = replaced(self._spine.given, dict(zip(inputs, tensors, strict=False)))
        taken = dict(zip(names[len(inputs) :], tensors[len(inputs) :], strict=True))
        out = self._stage.run(taken, call, span.first - 1, span.last - 1)
        if isinstance(out, Onward):
            return to_row([*tensors[: len(inputs)], *out.tensors.values()])
        return to_row(list(tensors_of(((out,), {})).values()))

    def trim(self, session: SessionId) -> None:
        """Nothing is set aside."""

    def truncate(self, session: SessionId, position: int) -> None:
        """Nothing is remembered."""

    def length(self, session: SessionId) -> int:  # noqa: ARG002  # of none
        """Nothing is remembered."""
        return 0

    def room(self) -> int:
        """Nothing is remembered, so there is always room."""
        return 1 << 50

    def forward(self, token_ids: Sequence[int], hidden: Hidden | None) -> Output:  # noqa: ARG002
        """Not by token ids. Raises NotServed."""
        raise NotServed("a module is called with tensors, not with token ids")

    def cost_s(self, batch: Sequence[Chunk]) -> float:  # noqa: ARG002  # no device is measured here
        """Not predicted."""
        return 0.0
