"""Proves, on a tiny random twin, that a model's stages say what the whole model says; else refuses.

The stages are the engine's own: the twin's weights go through the same tables, conversion and
loading as a checkpoint's. A proof takes seconds and is kept for as long as the process lives.
"""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from manyhands.domain.ids import SessionId
from manyhands.domain.model_spec import ModelSpec, TensorSource
from manyhands.domain.span import Span
from manyhands.domain.tensor_frame import StoredTensor
from manyhands.engine import module_library as library
from manyhands.engine import torch_modules
from manyhands.engine.engine import Chunk, Output, Weights
from manyhands.engine.module_cut import (
    SOURCE,
    Mismatch,
    Plan,
    feed,
    find,
    is_encoder_decoder,
    scores_of,
)
from manyhands.engine.module_spec import Shapes, spec_of
from manyhands.engine.module_twin import tiny
from manyhands.errors import ManyhandsError, NotServed

MOST = 40_000_000
"""Weights. A larger twin was not made tiny: its config names sizes in words of its own."""

PROMPT, CHUNK, STEPS, AGAIN = 11, 5, 4, 2
"""Tokens of the proof: a prompt longer than a twin's windows, a chunk behind it, steps of one
token, and how many of these are cut off and said again."""

END = PROMPT + CHUNK + STEPS

MOST_ERROR = 2e-5
"""Of the largest score: what kernels may round otherwise. A mask or a length that is wrong is off
by a tenth and more, since the twin's weights are wide."""

MOST_DRIFT = 1e-2
"""The same between a text with memory and without: libraries drift here, by 1e-3 at the worst, but
a state that is forgotten before a chunk is off by a third and more."""

KV_BYTES = 1 << 28
_SESSION = SessionId("proof")


def plan_of(config: Mapping[str, Any]) -> Plan:
    """How models with this `config.json` are run in stages.

    Raises NotServed, naming the model and the reason, when its twin's stages differ from it.
    """
    return _plan(library.as_text(tiny(config)))


def model_spec(config: Mapping[str, Any], stored: Shapes) -> ModelSpec:
    """The spec of a model that no family file serves; see module_spec for what is raised."""
    library.architecture(config)
    return spec_of(config, stored, plan_of(config))


@lru_cache(maxsize=16)
def _plan(config: str) -> Plan:
    small = json.loads(config)
    name = f"model_type {small.get('model_type')}"
    _check_inputs(small, name)
    twin = twin_of(small)
    faults: dict[str, None] = {}
    for has_positions in (False,) if is_encoder_decoder(type(twin)) else (True, False):
        try:
            plan = find(twin, has_positions)
            plan = replace(plan, by_token=_is_by_token(twin, plan))
            check(twin, small, plan)
        except (Mismatch, ManyhandsError) as fault:
            faults[str(fault)] = None
        except Exception as fault:  # noqa: BLE001  # whatever the library raises
            faults[f"{type(fault).__name__}: {fault}"[:300]] = None
        else:
            return plan
    raise NotServed(
        f"{name} cannot be run in stages: {' | '.join(faults)}; use a model of another family"
    )


def _is_by_token(twin: Any, plan: Plan) -> bool:
    """Whether the model itself goes on with single tokens only. Raises Mismatch if not even so.

    Its memory must say what it says of the whole text without one.
    """
    if plan.memory is None:
        return False
    with torch.inference_mode():
        ids = torch.tensor([tokens(0, END)])
        truth = scores_of(twin(**asked(twin, plan, ids, READ)))[0]
    for by_token in (False, True):
        said = torch.cat(whole(twin, replace(plan, by_token=by_token))[:-AGAIN])
        if error(said, truth) <= MOST_DRIFT:
            return by_token
    raise Mismatch("with its memory it says something else than without")


def _check_inputs(small: Mapping[str, Any], name: str) -> None:
    """Refuse at once what is not asked by token ids alone."""
    made, _ = library.architecture(small)
    takes = list(inspect.signature(made.forward).parameters)
    if "input_ids" not in takes:
        raise NotServed(f"{name}: {made.__name__} takes {takes[1]}, not token ids: not served")


def twin_of(small: Mapping[str, Any]) -> Any:
    """A whole model of random weights, norms and biases included. Raises NotServed."""
    name = f"model_type {small.get('model_type')}"
    made, described = library.architecture(small)
    try:
        empty = library.skeleton(made, described, torch.float32)
        size = sum(weight.numel() for weight in empty.parameters())
        twin = library.skeleton(made, described, torch.float32, "cpu") if size <= MOST else None
    except Exception as fault:  # whatever the library raises on sizes it cannot have
        why = f"{type(fault).__name__}: {str(fault)[:200]}"
        raise NotServed(f"{name}: no small twin of it can be made ({why})") from fault
    if twin is None:
        raise NotServed(f"{name}: no small twin of it can be made; it would have {size} weights")
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in twin.parameters():
            noise = torch.randn(weight.shape, generator=dice)
            if weight.dim() > 1:
                weight.copy_(noise / weight.shape[-1] ** 0.5)
            else:
                weight.add_(0.1 * noise)
    return twin


def check(twin: Any, config: Mapping[str, Any], plan: Plan) -> float:
    """How far what stages say is from what the whole twin says, at most; 0 is bit for bit.

    One stage, some and many are tried. Raises Mismatch above MOST_ERROR of the largest score.
    """
    worst = 0.0
    stored = library.stored_form(twin)
    spec = spec_of(config, {name: tuple(t.shape) for name, t in stored.items()}, plan)
    said = whole(twin, plan)
    for cuts in ways_to_cut(spec, plan):
        mine = staged(spec, cuts, plan, weights_of(stored))
        for number, (one, other) in enumerate(zip(mine, said, strict=True)):
            far = error(one, other)
            worst = max(worst, far)
            if not far <= MOST_ERROR:
                raise Mismatch(f"{len(cuts)} stages differ by {far:.1e} at step {number}")
    return worst


def error(one: Tensor, other: Tensor) -> float:
    """The largest difference over the largest number; infinite for another shape or a NaN."""
    if one.shape != other.shape or not bool(torch.isfinite(one).all()):
        return float("inf")
    return float((one - other).abs().max() / other.abs().max())


def ways_to_cut(spec: ModelSpec, plan: Plan) -> Iterator[list[Span]]:
    """The whole, thirds, and thirds with embedding and head each alone; these are also cut where
    an encoder ends.
    """
    layers = len(spec.layers)
    third = max(1, (layers - 2) // 3)
    inner = sorted({1 + third, layers - 1 - third})
    read = 0 if plan.encoder is None else layers - 1 - len(plan.cut.blocks)
    many = sorted({0, 1, read, *inner, layers - 1, layers})
    for ends in ([0, layers], [0, *inner, layers], many):
        yield [Span(a, b) for a, b in itertools.pairwise(ends)]


def weights_of(stored: Mapping[str, Tensor]) -> Weights:
    """Reads tensors in memory as an engine reads a checkpoint's."""

    def read(source: TensorSource) -> StoredTensor:
        tensor = stored[source.names[0]].detach().contiguous()
        form = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}[tensor.dtype]
        data = tensor.reshape(-1).view(torch.uint8).numpy().data.toreadonly()
        return StoredTensor(form, tuple(tensor.shape), data)

    return read


def pieces(plan: Plan) -> list[tuple[int, int]]:
    """What is said, from where to where: a prompt, steps, and the last of these again."""
    if plan.memory is None:
        return [(0, PROMPT)]
    singles = [(place, place + 1) for place in range(PROMPT, END)]
    chunk = singles[:CHUNK] if plan.by_token else [(PROMPT, PROMPT + CHUNK)]
    return [(0, PROMPT), *chunk, *singles[CHUNK:], *singles[-AGAIN:]]


def tokens(first: int, last: int) -> tuple[int, ...]:
    """Token ids that differ from their neighbours."""
    return tuple((7 * place + 3) % 190 + 8 for place in range(first, last))


READ = tokens(END, END + SOURCE)
"""What an encoder-decoder is given to read."""


@torch.inference_mode()
def asked(twin: Any, plan: Plan, ids: Tensor, source: Sequence[int]) -> dict[str, Any]:
    """What the library's model is asked with: the tokens, and what its encoder makes of a source.

    The library's own generation asks so too.
    """
    if plan.encoder is None:
        return {"input_ids": ids, "return_dict": True}
    _, given = feed(twin.get_encoder(), plan.encoder, torch.tensor([source]), 0, None)
    encoded = twin.get_encoder()(**given)
    return {"encoder_outputs": encoded, "decoder_input_ids": ids, "return_dict": True}


@torch.inference_mode()
def whole(twin: Any, plan: Plan) -> list[Tensor]:
    """What the library's model says by itself, [T, V] a step."""
    given: list[Tensor] = []
    cache: Any = None
    for first, last in dict.fromkeys(pieces(plan)):
        more = {} if plan.memory is None else {"use_cache": True}
        if plan.memory is not None and cache is not None:
            more[plan.memory] = cache
        out = twin(**asked(twin, plan, torch.tensor([tokens(first, last)]), READ), **more)
        cache = None if plan.memory is None else out[plan.memory]
        given.append(scores_of(out)[0])
    return given if plan.memory is None else [*given, *given[-AGAIN:]]


def staged(spec: ModelSpec, cuts: Sequence[Span], plan: Plan, weights: Weights) -> Iterator[Tensor]:
    """What stages say, one engine a span, [T, V] a step."""
    engines = [
        torch_modules.load(spec, span, weights, kv_bytes=KV_BYTES, plan=plan) for span in cuts
    ]
    source = READ if plan.encoder is not None else ()
    for engine in engines:
        engine.open(_SESSION, len(source) + END)
    if source:
        _stepped(engines, 0, source, ())
    for first, last in pieces(plan):
        rows = tuple(range(last - first))
        output = _stepped(engines, len(source) + first, tokens(first, last), rows)
        yield torch.from_numpy(output.hidden if output.scores is None else output.scores)


def _stepped(
    engines: Sequence[torch_modules.ModuleEngine],
    position: int,
    said: tuple[int, ...],
    rows: tuple[int, ...],
) -> Output:
    hidden: Any = None
    for engine in engines:
        output = engine.step([Chunk(_SESSION, position, said, hidden, rows)])[0]
        hidden = output.hidden
    return output
