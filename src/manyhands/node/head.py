"""What a stage makes of an engine's output: rows for the next stage, or the answer of the last one.

Runs on the compute thread. Knows nothing of links or of the session rules.
"""

from __future__ import annotations

import numpy as np

from manyhands.codec import codec
from manyhands.domain.tensor_frame import TensorFrame
from manyhands.domain.work import Result, Step, Want
from manyhands.engine.engine import Chunk, Output
from manyhands.engine.sampler import Draw, draw
from manyhands.errors import NotServed
from manyhands.node.stage import StageMemory

MASK_CODEC = "bits"
EXACT_CODEC = "fp32"


def wanted_rows(step: Step) -> tuple[int, ...]:
    """Rows of this chunk, from 0, whose output the owner wants."""
    count = len(step.token_ids)
    match step.want.rows:
        case "all":
            return tuple(range(count))
        case "last":
            return (count - 1,)
        case "none":
            return ()


def outline(step: Step, memory: StageMemory) -> Chunk:
    """The chunk without its numbers: enough to tell what it will cost."""
    return Chunk(memory.name, step.position, step.token_ids, None, wanted_rows(step))


def chunk_of(step: Step, memory: StageMemory) -> Chunk:
    """The engine's part of a step. Raises NotServed for what no engine here serves yet."""
    hidden = None if step.tensor is None else codec.decode(step.tensor)
    side = {name: codec.decode(frame) for name, frame in step.side.items()}
    return Chunk(memory.name, step.position, step.token_ids, hidden, wanted_rows(step), side)


def answer(step: Step, memory: StageMemory, output: Output) -> Result:
    """The last stage's result: draws, log-probabilities and tensors of the wanted rows.

    Raises NotServed for what this model's head does not give.
    """
    rows, want, scores = wanted_rows(step), step.want, output.scores
    draws: list[Draw] = []
    is_drawn = bool(rows) and (want.token or want.logprob or want.top_n or step.next_token_ids)
    if scores is None and (is_drawn or want.logits):
        raise NotServed("this model has no language head; ask for hidden states or a pooled vector")
    if scores is not None and is_drawn:
        masks = None if step.allowed is None else codec.decode(step.allowed).astype(np.bool_)
        before = memory.tokens[memory.source : step.position]  # what is read is not repeated
        for number, row in enumerate(rows):
            draws.append(
                draw(
                    scores[number],
                    memory.sampling,
                    position=step.position + row + 1,
                    history=[*before, *step.token_ids[: row + 1]],
                    want=want,
                    prompt_length=memory.prompt_length - memory.source,
                    allowed=None if masks is None else masks[number],
                    target=step.next_token_ids[row] if step.next_token_ids else None,
                )
            )
    return Result(
        session=step.session,
        epoch=step.epoch,
        sequence=step.sequence,
        branch=step.branch,
        position=step.position,
        tokens=tuple(d.token for d in draws if d.token is not None),
        chosen_logprob=tuple(d.logprob for d in draws if d.logprob is not None),
        target_logprob=tuple(d.target_logprob for d in draws if d.target_logprob is not None),
        target_is_greedy=tuple(d.target_is_greedy for d in draws if d.target_is_greedy is not None),
        top_ids=tuple(d.top_ids for d in draws) if want.top_n else (),
        top_logprobs=tuple(d.top_logprobs for d in draws) if want.top_n else (),
        tensor=_tensor(step.want, output),
        compute_s=step.compute_s,
    )


def _tensor(want: Want, output: Output) -> TensorFrame | None:
    if want.logits + want.hidden + want.pooled > 1:
        raise NotServed("ask for logits, hidden states or a pooled vector: one of them in a step")
    if want.pooled and output.pooled is None:
        raise NotServed("this model's head makes no pooled vector; ask for hidden states")
    if want.pooled and output.pooled is not None:
        return codec.encode(EXACT_CODEC, output.pooled)
    if want.logits and output.scores is not None:
        return codec.encode(EXACT_CODEC, output.scores)
    return codec.encode(EXACT_CODEC, output.hidden) if want.hidden else None
