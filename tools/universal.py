"""Tries every causal model of transformers on the universal path and writes docs/universal.md.

    python tools/universal.py [MODEL_TYPE ...]    all of them take an hour on two busy cores

Each gets a tiny random config, of its own defaults, and goes through a checkpoint in memory. The
whole model is run by transformers alone, then by one stage and by three: a prompt, 32 tokens fed
back one by one, and a second session of another length in the same steps. With names given the
table is only printed.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto as auto

from manyhands.domain.ids import SessionId
from manyhands.domain.span import Span
from manyhands.engine import module_library as library
from manyhands.engine import module_proof as proof
from manyhands.engine import torch_modules
from manyhands.engine.engine import Chunk
from manyhands.engine.module_cut import Plan, scores_of
from manyhands.engine.module_spec import spec_of
from manyhands.engine.module_twin import tiny
from manyhands.errors import ManyhandsError
from manyhands.families.family import known_families

PAGE = Path(__file__).parent.parent / "docs" / "universal.md"
STEPS = 32
SESSIONS = (
    (SessionId("one"), tuple((7 * place + 3) % 190 + 8 for place in range(13))),
    (SessionId("two"), tuple((5 * place + 1) % 180 + 9 for place in range(6))),
)

HEAD = """\
# Models without a family file

Written by `python tools/universal.py` with transformers {version} and torch {torch}; do not edit.

`families/` says in words what the common models compute. Any other causal model of transformers is
run by its own code in stages (`engine/torch_modules`, with `pip install -e '.[models]'`), provided
that a tiny random twin of it proves the stages right when the folder is opened. Here that is tried
for every causal model type of transformers that has no file, with tiny random configs of its
defaults: transformers alone beside one stage and three, a prompt of 13 tokens and 32 more fed back
one by one, and a second session of 6 tokens in the same steps. The proof also goes on with a chunk
of several tokens, which some recurrent models of transformers get wrong: these are given the tokens
behind the first chunk one by one ("by token"). The error is the largest difference of a score, over
the largest score; 0 is bit for bit. It is architecture only: there were no real weights at hand.

**{served} of {tried} are served**, {exact} of these bit for bit. Those without memory (encoders)
answer whole texts by `forward`. Images, sound and encoder-decoders are not served by this path; the
decoder of one by itself is. The rest is refused, with the reason in the table. `mh.spread` takes
any module, images included.

| model_type | blocks | memory | beside hidden | one stage | three stages | refused because |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    family: str
    plan: Plan | None = None
    errors: tuple[float, float] = (0.0, 0.0)
    why: str = ""

    def __str__(self) -> str:
        if self.plan is None:
            return f"| {self.family} | | | | | | {_one_line(self.why)} |"
        more = ", ".join(one.path for one in self.plan.cut.carried[1:]) or "nothing"
        kind = "by token" if self.plan.by_token else "yes"
        memory = kind if self.plan.memory else "no memory"
        one, three = (f"{error:.0e}" if error else "0" for error in self.errors)
        return (
            f"| {self.family} | {len(self.plan.cut.blocks)} | {memory} | {more} | {one} | {three} "
            "| |"
        )


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def try_family(family: str) -> Row:
    """One model type, from its default config."""
    named = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family]
    try:
        config = {**CONFIG_MAPPING[family]().to_dict(), "architectures": [named]}
        plan = proof.plan_of(config)
        return Row(family, plan, errors(json.loads(library.as_text(tiny(config))), plan))
    except ManyhandsError as refusal:
        return Row(family, why=str(refusal)[:300])
    except Exception as fault:  # noqa: BLE001  # a config class that cannot even be made, say
        return Row(family, why=f"transformers: {type(fault).__name__}: {str(fault)[:200]}")


def errors(config: dict[str, Any], plan: Plan) -> tuple[float, float]:
    """The largest error of one stage, and of three."""
    twin = proof.twin_of(config)
    stored = library.stored_form(twin)
    spec = spec_of(config, {name: tuple(t.shape) for name, t in stored.items()}, plan)
    truths = [whole(twin, plan, prompt) for _, prompt in SESSIONS]
    layers = len(spec.layers)
    found = []
    for ends in ([0, layers], [0, 1 + layers // 3, layers - layers // 3, layers]):
        engines = [
            torch_modules.load(
                spec, Span(a, b), proof.weights_of(stored), kv_bytes=1 << 28, plan=plan
            )
            for a, b in pairwise(ends)
        ]
        pairs = zip(staged(engines, truths), zip(*truths, strict=True), strict=True)
        found.append(max(proof.error(*pair) for mine in pairs for pair in zip(*mine, strict=True)))
    return found[0], found[1]


@torch.inference_mode()
def whole(twin: Any, plan: Plan, prompt: tuple[int, ...]) -> list[torch.Tensor]:
    """What transformers says, step by step, each time fed back the likeliest token."""
    ids, cache, said = list(prompt), None, []
    for _ in range(1 + (STEPS if plan.memory else 0)):
        more: dict[str, Any] = {"use_cache": True} if plan.memory else {}
        if cache is not None:
            more[str(plan.memory)] = cache
        out = twin(input_ids=torch.tensor([ids]), return_dict=True, **more)
        cache = out[plan.memory] if plan.memory else None
        said.append(scores_of(out)[0])
        ids = [int(said[-1][-1].argmax()) % 190]
    return said


def staged(engines: list[Any], truths: list[list[torch.Tensor]]) -> Iterator[list[torch.Tensor]]:
    """What stages say of both sessions in the same steps."""
    lengths = [0, 0]
    for engine in engines:
        for name, _ in SESSIONS:
            engine.open(name, 64)
    for step in range(len(truths[0])):
        hidden: list[Any] = [None, None]
        fed = [
            prompt if step == 0 else (int(truth[step - 1][-1].argmax()) % 190,)
            for (_, prompt), truth in zip(SESSIONS, truths, strict=True)
        ]
        for engine in engines:
            outputs = engine.step(
                [
                    Chunk(name, lengths[n], fed[n], hidden[n], tuple(range(len(fed[n]))))
                    for n, (name, _) in enumerate(SESSIONS)
                ]
            )
            hidden = [output.hidden for output in outputs]
        lengths = [length + len(one) for length, one in zip(lengths, fed, strict=True)]
        yield [
            torch.from_numpy(output.hidden if output.scores is None else output.scores)
            for output in outputs
        ]


def page(rows: list[Row]) -> str:
    """The whole page."""
    served = [row for row in rows if row.plan is not None]
    head = HEAD.format(
        version=transformers.__version__,
        torch=torch.__version__.split("+")[0],
        served=len(served),
        tried=len(rows),
        exact=sum(row.errors == (0.0, 0.0) for row in served),
    )
    return head + "".join(f"{row}\n" for row in rows)


def main(names: list[str]) -> None:
    """Try the families named, or all that have no file, and write the page."""
    warnings.simplefilter("ignore")
    talk: Any = transformers.utils.logging
    talk.set_verbosity_error()
    every = sorted(set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(known_families()))
    rows = []
    for family in names or every:
        rows.append(try_family(family))
        print(rows[-1], flush=True)
    if not names:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
