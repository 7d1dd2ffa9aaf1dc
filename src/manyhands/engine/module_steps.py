"""A step through a span of a model: along one row of blocks, or an encoder's and then a decoder's.

Rows go in and come out as stages ship them. Knows nothing of sessions, batches or checkpoints.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from manyhands.domain.span import Span
from manyhands.engine.module_cut import Plan, feed
from manyhands.engine.module_memory import ModuleMemory, SourceMemory
from manyhands.engine.module_spec import Sizes
from manyhands.engine.module_stage import Cut, Onward, Stage
from manyhands.engine.module_tensors import pack, unpack


class Steps(Protocol):
    """How a model is run over any span of its layers."""

    def step(
        self,
        span: Span,
        position: int,
        ids: Tensor,
        rows: Tensor | None,
        memory: Any,
        more: dict[str, Any],
    ) -> Any:
        """Run tokens [1, T] and keep them in memory: rows [T, D], or what the whole model returns.

        `rows` are those of the stage before; `more` is what the model is called with beside the
        tokens.
        """


class Row:
    """Steps along one row of blocks. The model's forward is changed for good; see Stage."""

    def __init__(self, model: nn.Module, plan: Plan, cut: Cut) -> None:
        self._plan, self._stage = plan, Stage(model, cut)

    def step(
        self,
        span: Span,
        position: int,
        ids: Tensor,
        rows: Tensor | None,
        memory: ModuleMemory | None,
        more: dict[str, Any],
    ) -> Any:
        """See Steps; without memory nothing is kept."""
        carried = self._stage.cut.carried
        received = None if rows is None else unpack(rows, carried)
        args, given = feed(self._stage.model, self._plan, ids, position, memory)
        out = self._stage.run(received, (args, given | more), span.first - 1, span.last - 1)
        if memory is not None:
            memory.grown(ids.shape[1])
        return pack(out.tensors, carried) if isinstance(out, Onward) else out


class Halves:
    """Steps of an encoder-decoder, whose encoder's blocks stand in front.

    The source, which is the step at position 0, goes through the encoder; every stage of the
    decoder keeps what comes out. What the decoder is told is embedded at layer 0, beside the
    encoder's embedding, which is often the same, and passes the encoder's blocks by.
    """

    def __init__(self, model: Any, plan: Plan, cut: Cut, encoder: Plan, read: Cut) -> None:
        self._plan, self._reading = plan, encoder
        self._encoder = Stage(model.get_submodule(encoder.name), read)
        self._decoder = Stage(model, cut)
        self._read = len(read.blocks)
        self._head = self._read + len(cut.blocks)

    def step(
        self,
        span: Span,
        position: int,
        ids: Tensor,
        rows: Tensor | None,
        memory: SourceMemory,
        more: dict[str, Any],
    ) -> Any:
        """See Steps; the last stage says nothing of the source, its rows are [0, D]."""
        first, last = span.first - 1, span.last - 1
        if position == 0:
            source = self._source(ids, rows, first, last)
            memory.begin(source[None], is_needed=last > self._read)  # by a block of the decoder
            return source[:0] if last > self._head else source
        said = self._said(ids, rows, memory, more, first, last)
        memory.grown(ids.shape[1])
        return said

    def _source(self, ids: Tensor, rows: Tensor | None, first: int, last: int) -> Tensor:
        """What the next stage is given of the source, [S, D]; behind the encoder all it made."""
        if rows is not None and first >= self._read:
            return rows
        carried = self._encoder.cut.carried
        received = None if rows is None else unpack(rows, carried)
        given = feed(self._encoder.model, self._reading, ids, 0, None)
        # what stands behind its blocks is done by the stage of the last one
        behind = self._read + 1 if last >= self._read else last
        out = self._encoder.run(received, given, first, behind)
        return pack(out.tensors, carried) if isinstance(out, Onward) else out.last_hidden_state[0]

    def _said(
        self,
        ids: Tensor,
        rows: Tensor | None,
        memory: SourceMemory,
        more: dict[str, Any],
        first: int,
        last: int,
    ) -> Any:
        if rows is not None and last <= self._read:
            return rows
        carried = self._decoder.cut.carried
        received = None if rows is None else unpack(rows, carried)
        args, given = feed(self._decoder.model, self._plan, ids, 0, memory, memory.rows)
        begin = -1 if rows is None else max(0, first - self._read)
        end = max(0, last - self._read)
        out = self._decoder.run(received, (args, given | more), begin, end)
        return pack(out.tensors, carried) if isinstance(out, Onward) else out


def steps_of(model: nn.Module, plan: Plan, sizes: Sizes) -> Steps:
    """The steps of a model of either kind."""
    if plan.encoder is None or sizes.encoder is None:
        return Row(model, plan, sizes.cut)
    return Halves(model, plan, sizes.cut, plan.encoder, sizes.encoder)
