"""torch_modules: runs any transformers model in stages, by the model's own forward, on the CPU.

The universal path: what no family file says in words is run by the library's code, one session
after the other. Slower than torch_blocks, and as true as the library. Each session has a cache of
the library's own. Knows nothing of how the cut was found.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from manyhands.domain.ids import SessionId, short
from manyhands.domain.model_spec import ModelSpec, TensorSource
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.engine import module_library as library
from manyhands.engine.engine import Chunk, Hidden, Output, Weights
from manyhands.engine.module_cut import Plan
from manyhands.engine.module_memory import Memory, SourceMemory
from manyhands.engine.module_sessions import Session, Sessions
from manyhands.engine.module_spec import sizes_of
from manyhands.engine.module_steps import Steps, steps_of
from manyhands.errors import CheckpointError, ContextOverflow, NotServed, UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_STORED = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "I8": torch.int8,
    "BOOL": torch.bool,
}
_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}
ARITHMETIC = "1"
"""Raised by one when what is computed here changes."""


def load(
    spec: ModelSpec,
    span: Span,
    weights: Weights,
    *,
    kv_bytes: int,
    plan: Plan,
    dtype: str = "fp32",
) -> ModuleEngine:
    """Build the model's skeleton, fill the span's weights in, and let the rest pass through.

    Raises CheckpointError for tensors that do not fit, NotServed for what transformers lacks.
    """
    if not spec.span.covers(span):
        raise UserError(f"span {span} is outside this model's layers {spec.span}")
    made, described = library.architecture(json.loads(spec.config))
    model = library.skeleton(made, described, DTYPES[dtype])
    sources = [
        source for layer in spec.layers[span.first : span.last] for source in layer.tensors.values()
    ]
    tensors = {source.names[0]: _read(source, weights) for source in sources}
    real = library.fill(model, tensors, DTYPES[dtype])
    sizes = sizes_of(spec.config, plan)
    blocks = sizes.blocks(plan)
    _check_filled(model, [blocks[n - 1] for n in span_blocks(spec, span)], real)
    return ModuleEngine(spec, span, model, steps_of(model, plan, sizes), plan, kv_bytes)


def span_blocks(spec: ModelSpec, span: Span) -> range:
    """The layers of a span that are blocks."""
    return range(max(1, span.first), min(span.last, len(spec.layers) - 1))


def _read(source: TensorSource, weights: Weights) -> Tensor:
    """One stored tensor. The file's bytes are read-only to us, torch wants to be able to write."""
    stored = weights(source)
    dtype = _STORED.get(stored.dtype)
    if dtype is None:
        raise NotServed(
            f"tensor {source.names[0]!r} is stored as {stored.dtype}; this engine reads "
            f"{', '.join(_STORED)}; convert the checkpoint"
        )
    tensor = torch.empty(stored.shape, dtype=dtype)  # torch's memory: kernels round by alignment
    if stored.data.nbytes:
        raw = np.frombuffer(stored.data, np.uint8)
        tensor.reshape(-1).view(torch.uint8).numpy()[...] = raw
    return tensor


def _check_filled(model: nn.Module, blocks: Sequence[str], real: set[str]) -> None:
    for block in blocks:
        for name, _ in model.get_submodule(block).named_parameters(block, remove_duplicate=False):
            if name not in real:
                raise CheckpointError(
                    f"no tensor of the checkpoint goes into {name}; download the model again"
                )


class ModuleEngine:
    """An Engine (see engine.py for the contract of each method) over Steps."""

    def __init__(
        self,
        spec: ModelSpec,
        span: Span,
        model: Any,
        steps: Steps,
        plan: Plan,
        kv_bytes: int,
    ) -> None:
        self._spec, self._span, self._steps, self._plan = spec, span, steps, plan
        self._dtype: torch.dtype = model.dtype
        self._sessions = Sessions(spec, model.config, self._dtype.itemsize, kv_bytes)
        stores = {weight.untyped_storage().data_ptr(): weight for weight in model.parameters()}
        self._weight_bytes = sum(int(w.untyped_storage().nbytes()) for w in stores.values())
        self._normed: list[Tensor] = []
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(self._keep_normed)
        self._picks_rows = "logits_to_keep" in inspect.signature(model.forward).parameters

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
        limit: int,
        parent: SessionId | None = None,
        at: int = 0,
        span: Span | None = None,
    ) -> None:
        """Begin a memory; also raises ContextOverflow for a limit over the model's context."""
        span = self._span if span is None else span
        if not self._span.covers(span):
            raise UserError(f"span {span} is not held here, {self._span} is; check the route")
        self._sessions.open(session, span, limit, parent, at)

    def close(self, session: SessionId) -> None:
        """Free a session's memory; unknown sessions are no error."""
        self._sessions.close(session)

    def step(self, batch: Sequence[Chunk]) -> list[Output]:
        """Run each chunk by itself, one after the other.

        A session whose step fails half way is closed: what its cache holds then nobody knows.
        """
        if len({chunk.session for chunk in batch}) < len(batch):
            raise UserError("a batch holds two chunks of one session; send one after the other")
        for chunk in batch:
            self._check(chunk)
        self._sessions.check_room((c.session, c.position + len(c.token_ids)) for c in batch)
        return [self._step(chunk) for chunk in batch]

    def trim(self, session: SessionId) -> None:
        """Give back what the session reserved beyond its length."""
        self._sessions.trim(session)

    def truncate(self, session: SessionId, position: int) -> None:
        """Forget everything from `position` on.

        Raises SessionUnknown where that cannot be done, see module_sessions.
        """
        self._sessions.cut(session, position)

    def length(self, session: SessionId) -> int:
        """Tokens in memory."""
        return self._sessions.named(session).memory.length

    def room(self) -> int:
        """Key/value bytes still free."""
        return self._sessions.room()

    def forward(self, token_ids: Sequence[int], hidden: Hidden | None) -> Output:
        """Run a whole sequence from position 0 without memory."""
        if self._spec.source:
            raise NotServed(f"{self._spec.family} reads one text and says another; open a session")
        tokens = tuple(token_ids)
        rows = tuple(range(len(tokens)))
        self._check_form("this sequence", self._span, tokens, hidden, rows)
        if len(tokens) > self._spec.context:
            raise ContextOverflow(
                f"{len(tokens)} tokens are over the model's context of {self._spec.context}"
            )
        return self._run(self._span, 0, tokens, hidden, rows, None)

    def cost_s(self, batch: Sequence[Chunk]) -> float:  # noqa: ARG002  # no device is measured here
        """Not predicted: 0, as of every engine whose device was not measured."""
        return 0.0

    def _step(self, chunk: Chunk) -> Output:
        self._sessions.cut(chunk.session, chunk.position)
        session = self._sessions.named(chunk.session)
        self._sessions.reserve(session, chunk.position + len(chunk.token_ids))
        try:
            outputs = [self._piece(session, piece) for piece in self._pieces(chunk)]
        except BaseException:
            self.close(chunk.session)
            raise
        scores = [output.scores for output in outputs if output.scores is not None]
        return Output(
            np.concatenate([output.hidden for output in outputs]),
            np.concatenate(scores) if scores else None,
        )

    def _pieces(self, chunk: Chunk) -> Iterator[Chunk]:
        """The chunk, or, behind the beginning of a text, each of its tokens if it must be so."""
        if not self._plan.by_token or chunk.position == 0:
            yield chunk
            return
        for place, token in enumerate(chunk.token_ids):
            hidden = None if chunk.hidden is None else chunk.hidden[place : place + 1]
            rows = (0,) if place in chunk.rows else ()
            yield Chunk(chunk.session, chunk.position + place, (token,), hidden, rows)

    def _piece(self, session: Session, chunk: Chunk) -> Output:
        return self._run(
            session.span,
            chunk.position,
            chunk.token_ids,
            chunk.hidden,
            chunk.rows,
            session.memory,
        )

    @torch.inference_mode()
    def _run(
        self,
        span: Span,
        position: int,
        tokens: tuple[int, ...],
        hidden: Hidden | None,
        rows: tuple[int, ...],
        memory: Memory | None,
    ) -> Output:
        ids, has_head = torch.tensor([tokens]), span.last == len(self._spec.layers)
        more: dict[str, Any] = {}
        if has_head and self._picks_rows:
            more["logits_to_keep"] = torch.tensor(rows, dtype=torch.int64)
        received = None if hidden is None else torch.tensor(hidden).to(self._dtype)
        self._normed.clear()
        out = self._steps.step(span, position, ids, received, memory, more)
        return Output(out.float().numpy()) if isinstance(out, Tensor) else self._output(out, rows)

    def _output(self, out: Any, rows: tuple[int, ...]) -> Output:
        """Scores of the rows and what they were made from; a model may have no scores."""
        scores = out.get("logits")
        made_from = self._normed[-1] if self._normed else out.get("last_hidden_state")
        hidden = np.zeros((len(rows), self._spec.width), np.float32)
        if made_from is not None and made_from.dim() == 3:
            hidden = self._rows_of(made_from, rows)
        return Output(hidden, None if scores is None else self._rows_of(scores, rows))

    def _rows_of(self, tensor: Tensor, rows: tuple[int, ...]) -> Hidden:
        """The wanted rows; a forward that was told which they are gives only these."""
        found = tensor[0].float()
        return (found if self._picks_rows else found[list(rows)]).numpy()

    def _keep_normed(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._normed[:] = [args[0]]

    def _check(self, chunk: Chunk) -> None:
        session, name = self._sessions.named(chunk.session), f"session {short(chunk.session)}"
        end = chunk.position + len(chunk.token_ids)
        if chunk.side:
            raise NotServed(f"{name}: side tensors {', '.join(chunk.side)} are of no use here")
        if not 0 <= chunk.position <= session.memory.length:
            raise UserError(
                f"{name}: a step at position {chunk.position}, but memory holds "
                f"{session.memory.length} tokens; send positions from there or below"
            )
        if end > session.limit:
            raise ContextOverflow(
                f"{name} would hold {end} tokens, its limit is {session.limit}; open it with a "
                "larger limit or send less"
            )
        if isinstance(session.memory, SourceMemory):
            self._check_source(name, session.memory.source, chunk)
        if chunk.position and self._plan.memory is None:
            raise NotServed(
                f"{name}: {self._spec.family} keeps no memory, so a text cannot be gone on with; "
                "send it whole"
            )
        self._check_form(name, session.span, chunk.token_ids, chunk.hidden, chunk.rows)

    def _check_source(self, name: str, source: int, chunk: Chunk) -> None:
        count, most = len(chunk.token_ids), self._spec.source
        if chunk.position == 0:
            if count > most:
                raise ContextOverflow(
                    f"{name}: the text to be read has {count} tokens, this model takes {most}; "
                    "shorten it"
                )
            if chunk.rows:
                raise UserError(f"{name}: the text to be read was asked for answers; ask behind it")
            return
        if chunk.position < source:
            raise UserError(
                f"{name}: a step at position {chunk.position} is inside the {source} tokens to be "
                "read, which come whole, at position 0"
            )
        if chunk.position - source + count > self._spec.context - most:
            raise ContextOverflow(
                f"{name}: this model says {self._spec.context - most} tokens at most; ask for fewer"
            )

    def _check_form(
        self,
        name: str,
        span: Span,
        tokens: tuple[int, ...],
        hidden: Hidden | None,
        rows: tuple[int, ...],
    ) -> None:
        vocabulary, shape = self._spec.vocabulary, (len(tokens), self._spec.width)
        if not tokens or not 0 <= min(tokens) <= max(tokens) < vocabulary:
            raise UserError(f"{name}: token ids must be one or more, each in [0, {vocabulary})")
        if rows and not 0 <= min(rows) <= max(rows) < len(tokens):
            raise UserError(f"{name}: rows {rows} wanted of a step of {len(tokens)} tokens")
        if (hidden is None) != (span.first == 0):
            said = "takes token ids alone" if span.first == 0 else "needs hidden states"
            raise UserError(f"{name}: span {span} {said}; check the route")
        if hidden is not None and (hidden.shape != shape or hidden.dtype != np.float32):
            raise UserError(
                f"{name}: hidden states are {hidden.dtype} {list(hidden.shape)}, this step needs "
                f"float32 {list(shape)}"
            )


def profile(weights: str, weight_format: str, wire_codec: str, dtype: str) -> Profile:
    """The numeric form of this engine's results; `weights` names the weight files."""
    return Profile(
        weights=weights,
        weight_format=weight_format,
        arithmetic=f"{dtype} x {dtype} -> fp32, kept in {dtype}",
        kernels=f"torch-{dtype}-modules{ARITHMETIC}-{library.version()}-{torch.__version__}",
        wire_codec=wire_codec,
        row_invariant=False,
        tolerance=_TOLERANCE[dtype],
    )
