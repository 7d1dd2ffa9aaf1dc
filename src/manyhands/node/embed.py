"""From texts or images to vectors or classes: whole sequences through the swarm, a few at a time.

An encoder keeps no memory, so what is lost on the way is asked again. Knows nothing of text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from manyhands.codec import codec
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Sampling, Want
from manyhands.errors import ManyhandsError, NotServed, UserError
from manyhands.node.head import EXACT_CODEC
from manyhands.node.model import Model
from manyhands.node.owner import Owner

SESSIONS = 8
"""Sequences of one request that are under way at a time."""

POOLED = Want(token=False, pooled=True)


@dataclass(frozen=True, slots=True)
class Whole:
    """What goes through the model at once; `image` are the patches that the tokens stand for."""

    token_ids: tuple[int, ...]
    image: TensorFrame | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` [N, outputs], in the order asked; who computed them, what recoveries took."""

    vectors: NDArray[np.float32]
    tokens: int
    kernels: tuple[str, ...]
    recovered_s: tuple[float, ...]


def check_embeds(spec: ModelSpec) -> None:
    """Raise NotServed for a model that makes no vector of a text or an image."""
    kind = spec.answers
    if not kind.startswith("pool_"):
        made = {
            "lm": "goes on with texts",
            "classify": "gives scores of classes, ask for those",
        }.get(kind, "gives a vector for each token and none for the whole")
        raise NotServed(f"this model {made}; embeddings need an encoder such as MiniLM or BERT")


def check_classifies(spec: ModelSpec) -> None:
    """Raise NotServed for a model that has no classes."""
    if spec.answers != "classify":
        raise NotServed(
            "this model has no classes to tell apart; that takes one saved as "
            "…ForImageClassification or …ForSequenceClassification"
        )


def whole_image(spec: ModelSpec, pixels: NDArray[np.float32]) -> Whole:
    """An image [channels, height, width], scaled as the model's own processor does, as patches.

    Raises UserError for another size: positions are not interpolated.
    """
    patches = spec.embed.patches
    if patches is None:
        raise UserError("this model takes texts; give it a text or token ids")
    shape = patches.channels, patches.height, patches.width
    if pixels.shape != shape:
        raise UserError(
            f"the image is {list(pixels.shape)}, this model takes {list(shape)} (channels, height, "
            "width) and interpolates no positions; resize it"
        )
    size = patches.kernel
    rows, columns = patches.height // size, patches.width // size
    cut = pixels[:, : rows * size, : columns * size]
    squares = cut.reshape(patches.channels, rows, size, columns, size).transpose(1, 3, 0, 2, 4)
    frame = codec.encode(EXACT_CODEC, squares.reshape(patches.squares, patches.elements))
    return Whole((0,) * spec.context, frame)


async def pooled(owner: Owner, model: Model, wholes: Sequence[Whole]) -> Embedded:
    """The pooled vector (or class scores) of each, as the model's head makes it.

    A few sessions share the work. Raises UserError for an empty sequence, ContextOverflow, and what
    Session.run raises; of several errors the first.
    """
    for whole in wholes:
        if not whole.token_ids:
            raise UserError("a text is empty; give at least one token")
    vectors = np.zeros((len(wholes), model.spec.head.outputs), np.float32)
    left = iter(enumerate(wholes))
    kernels: dict[str, None] = {}
    recovered_s: list[float] = []

    async def work() -> None:
        session = await owner.open(model, Sampling(), 0)
        try:
            for number, whole in left:
                (result,) = await session.run(whole.token_ids, POOLED, image=whole.image)
                if result.tensor is None or result.tensor.shape != (1, vectors.shape[1]):
                    raise ManyhandsError("the last stage sent no vector; its version may be older")
                vectors[number] = codec.decode(result.tensor)[0]
        finally:
            owner.close(session)
        kernels.update(dict.fromkeys(session.kernels))
        recovered_s.extend(session.recovery.recovered_s)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(SESSIONS, len(wholes))):
                tasks.create_task(work())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    count = sum(len(whole.token_ids) for whole in wholes)
    return Embedded(vectors, count, tuple(kernels), tuple(recovered_s))


async def embed(
    owner: Owner, model: Model, wholes: Sequence[Whole], *, is_normalised: bool
) -> Embedded:
    """The vector of each text or image, of length 1 if `is_normalised`.

    Raises NotServed for a model that makes none, and what `pooled` raises.
    """
    check_embeds(model.spec)
    made = await pooled(owner, model, wholes)
    if not is_normalised:
        return made
    lengths = np.linalg.norm(made.vectors, axis=1, keepdims=True)
    return replace(made, vectors=made.vectors / np.maximum(lengths, 1e-12))
