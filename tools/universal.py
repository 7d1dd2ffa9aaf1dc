"""Tries the text models of transformers on the universal path and writes docs/universal.md.

    python tools/universal.py                     all: an hour on two busy cores
    python tools/universal.py --encoder-decoders  their table alone, the rest of the page stays
    python tools/universal.py MODEL_TYPE ...      prints rows, writes nothing

Each gets a tiny random config, of its own defaults, and goes through a checkpoint in memory. The
whole model is run by transformers alone, then by one stage and by three (an encoder-decoder by five
as well): a prompt, 32 tokens fed back one by one, and a second session of another length in the
same steps. A name stands for the
encoder-decoder where transformers has one of both halves, with `:decoder` for its decoder alone.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
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
from manyhands.engine.engine import Chunk, Output
from manyhands.engine.module_cut import Plan, is_encoder_decoder, scores_of
from manyhands.engine.module_spec import spec_of
from manyhands.engine.module_twin import tiny
from manyhands.errors import ManyhandsError
from manyhands.families.family import known_families

PAGE = Path(__file__).parent.parent / "docs" / "universal.md"
STEPS = 32
BEGINS = (3,)
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
answer whole texts by `forward`. Of an encoder-decoder this is the decoder by itself; both halves
are the table below. Images and sound are not served by this path. The rest is refused, with the
reason in the table. `mh.spread` takes any module, images included.

| model_type | blocks | memory | beside hidden | one stage | three stages | refused because |
|---|---|---|---|---|---|---|
"""

BOTH = "## Encoder-decoders"
BOTH_HEAD = """\

{both}

These read a text and say another: translations, summaries, answers. The prompt is what is read;
it goes through the encoder whole, in one step, so it is refused when it is longer than the encoder
takes, or than one message holds. The answer begins as the folder's `generation_config.json` says
(`decoder_start_token_id`, then `forced_bos_token_id`: the language, for a translator of several;
single tokens of `bad_words_ids` are never said) and is drawn as any other's, greedy or sampled;
beams and the other rules of `generate` are not computed. A chat is refused unless the tokenizer has
a template. A prompt of 13 tokens, or 6, is read, then a start and 32 more tokens are said.

**{served} of {tried} are served**, {exact} of these bit for bit. Whisper and other models that read
sound or images are refused by name: steps carry token ids.

| model_type | blocks | one stage | three stages | five stages | refused because |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One line of a table; `errors` are of one stage, three and five."""

    family: str
    plan: Plan | None = None
    errors: tuple[float, ...] = ()
    why: str = ""
    reads: bool = False

    def __str__(self) -> str:
        if self.plan is None:
            columns = 4 if self.reads else 5
            return f"| {self.family} |{' |' * columns} {_one_line(self.why)} |"
        errors = [f"{error:.0e}" if error else "0" for error in self.errors]
        blocks = str(len(self.plan.cut.blocks))
        if self.plan.encoder is not None:
            both = f"{len(self.plan.encoder.cut.blocks)} + {blocks}"
            return f"| {self.family} | {both} | {' | '.join(errors)} | |"
        more = ", ".join(one.path for one in self.plan.cut.carried[1:]) or "nothing"
        kind = "by token" if self.plan.by_token else "yes"
        memory = kind if self.plan.memory else "no memory"
        return f"| {self.family} | {blocks} | {memory} | {more} | {' | '.join(errors)} | |"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def encoder_decoders() -> dict[str, str]:
    """Model types with an encoder and a decoder of texts, and the classes of both halves."""
    found = {}
    for family, named in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.items():
        made = getattr(transformers, named)
        if is_encoder_decoder(made) and "input_ids" in inspect.signature(made.forward).parameters:
            found[family] = named
    return found


def try_family(family: str, named: str) -> Row:
    """One model type and class, from the type's default config."""
    reads = named in encoder_decoders().values()
    try:
        config = {**_default(family), "architectures": [named]}
        plan = proof.plan_of(config)
        found = errors(json.loads(library.as_text(tiny(config))), plan)
        return Row(family, plan, found, reads=reads)
    except ManyhandsError as refusal:
        return Row(family, why=str(refusal)[:300], reads=reads)
    except Exception as fault:  # noqa: BLE001  # a config class that cannot even be made, say
        why = f"transformers: {type(fault).__name__}: {str(fault)[:200]}"
        return Row(family, why=why, reads=reads)


def _default(family: str) -> dict[str, Any]:
    if family == "encoder-decoder":
        decoder = {"model_type": "bert", "is_decoder": True, "add_cross_attention": True}
        made: Any = CONFIG_MAPPING[family]
        found: dict[str, Any] = made(encoder={"model_type": "bert"}, decoder=decoder).to_dict()
        return found
    return CONFIG_MAPPING[family]().to_dict()


def errors(config: dict[str, Any], plan: Plan) -> tuple[float, ...]:
    """The largest error of one stage and of three, of an encoder-decoder also of five."""
    twin = proof.twin_of(config)
    stored = library.stored_form(twin)
    spec = spec_of(config, {name: tuple(t.shape) for name, t in stored.items()}, plan)
    truths = [whole(twin, plan, prompt) for _, prompt in SESSIONS]
    layers = len(spec.layers)
    found = []
    ways = [[0, layers], [0, 1 + layers // 3, layers - layers // 3, layers]]
    if plan.encoder is not None:
        ways.append([layers * stage // 5 for stage in range(6)])
    for ends in ways:
        engines = [
            torch_modules.load(
                spec, Span(a, b), proof.weights_of(stored), kv_bytes=1 << 28, plan=plan
            )
            for a, b in pairwise(ends)
        ]
        pairs = zip(staged(engines, truths, plan), zip(*truths, strict=True), strict=True)
        found.append(max(proof.error(*pair) for mine in pairs for pair in zip(*mine, strict=True)))
    return tuple(found)


@torch.inference_mode()
def whole(twin: Any, plan: Plan, prompt: tuple[int, ...]) -> list[torch.Tensor]:
    """What transformers says, step by step, each time fed back the likeliest token."""
    ids, cache, said = list(prompt), None, []
    if plan.encoder is not None:
        ids = list(BEGINS)
    for _ in range(1 + (STEPS if plan.memory else 0)):
        more: dict[str, Any] = {"use_cache": True} if plan.memory else {}
        if cache is not None:
            more[str(plan.memory)] = cache
        out = twin(**proof.asked(twin, plan, torch.tensor([ids]), prompt), **more)
        cache = out[plan.memory] if plan.memory else None
        said.append(scores_of(out)[0])
        ids = [int(said[-1][-1].argmax()) % 190]
    return said


def staged(
    engines: list[Any], truths: list[list[torch.Tensor]], plan: Plan
) -> Iterator[list[torch.Tensor]]:
    """What stages say of both sessions in the same steps."""
    lengths = [0, 0]
    prompts = [prompt for _, prompt in SESSIONS]
    for engine in engines:
        for name, _ in SESSIONS:
            engine.open(name, 64)
    if plan.encoder is not None:
        _stepped(engines, lengths, prompts, is_read=True)
        lengths, prompts = [len(prompt) for prompt in prompts], [BEGINS, BEGINS]
    for step in range(len(truths[0])):
        fed = prompts
        if step:
            fed = [(int(truth[step - 1][-1].argmax()) % 190,) for truth in truths]
        outputs = _stepped(engines, lengths, fed)
        lengths = [length + len(one) for length, one in zip(lengths, fed, strict=True)]
        yield [
            torch.from_numpy(output.hidden if output.scores is None else output.scores)
            for output in outputs
        ]


def _stepped(
    engines: list[Any],
    lengths: list[int],
    fed: Sequence[tuple[int, ...]],
    *,
    is_read: bool = False,
) -> list[Output]:
    hidden: list[Any] = [None, None]
    for engine in engines:
        outputs: list[Output] = engine.step(
            [
                Chunk(name, length, ids, rows, () if is_read else tuple(range(len(ids))))
                for (name, _), length, ids, rows in zip(SESSIONS, lengths, fed, hidden, strict=True)
            ]
        )
        hidden = [output.hidden for output in outputs]
    return outputs


def counted(head: str, rows: list[Row]) -> str:
    """A table below its head."""
    served = [row for row in rows if row.plan is not None]
    head = head.format(
        both=BOTH,
        version=transformers.__version__,
        torch=torch.__version__.split("+")[0],
        served=len(served),
        tried=len(rows),
        exact=sum(not any(row.errors) for row in served),
    )
    return head + "".join(f"{row}\n" for row in rows)


def tried(families: Iterable[tuple[str, str]]) -> list[Row]:
    """A row of each model type and class, printed as it comes."""
    rows = []
    for family, named in families:
        rows.append(try_family(family, named))
        print(rows[-1], flush=True)
    return rows


def main(names: list[str]) -> None:
    """Try the families named, or all that have no file, and write the page."""
    warnings.simplefilter("ignore")
    talk: Any = transformers.utils.logging
    talk.set_verbosity_error()
    causal, both = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, encoder_decoders()
    if names and names != ["--encoder-decoders"]:
        chosen = [(name.partition(":")[0], ":" in name) for name in names]
        tried(
            (name, causal[name] if alone else both.get(name) or causal[name])
            for name, alone in chosen
        )
        return
    if names:
        first = PAGE.read_text(encoding="utf-8").partition(f"\n{BOTH}")[0]
    else:
        every = sorted(set(causal) - set(known_families()))
        first = counted(HEAD, tried((name, causal[name]) for name in every))
    PAGE.write_text(first + counted(BOTH_HEAD, tried(sorted(both.items()))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
