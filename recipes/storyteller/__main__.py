"""`python -m recipes.storyteller`: tells the corpus, trains tokenizer and model, writes the folder.

Nothing is downloaded. `--device cuda` trains on a GPU; `--work` keeps what is needed to go on after
a stop; `--card` only samples, checks and writes the model card of the folder that is there.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from random import Random

import tokenizers
import torch

from recipes.storyteller import tokens
from recipes.storyteller.card import COUNT, write_card
from recipes.storyteller.export import export
from recipes.storyteller.grammar import tell
from recipes.storyteller.net import Net, Shape
from recipes.storyteller.training import Made, Plan, train

FOLDER = Path(__file__).parents[2] / "src" / "manyhands" / "storyteller"
TOKENIZER_STORIES = 8000


def make_tokenizer(seed: int, count: int = TOKENIZER_STORIES) -> tokenizers.Tokenizer:
    """The tokenizer, trained on `count` stories of this seed."""
    rng = Random(f"tokenizer {seed}")
    return tokens.train(tell(rng).text for _ in range(count))


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m recipes.storyteller", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="the model folder to write")
    parser.add_argument("--work", type=Path, default=Path("build/storyteller"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--machine", default=platform.processor() or platform.machine())
    parser.add_argument("--card", action="store_true", help="only write the card again")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    record = chosen.work / "made.json"
    if not chosen.card:
        made = _train(Plan(steps=chosen.steps), chosen)
        record.write_text(json.dumps(asdict(made), indent=2) + "\n", "utf-8")
    made = Made(**json.loads(record.read_text("utf-8")))
    sampled = write_card(chosen.out, made, chosen.machine)
    say(f"accepted {sampled.accepted} of {COUNT}, asked {sampled.asked_accepted}; see README.md")


def _train(plan: Plan, chosen: argparse.Namespace) -> Made:
    tokenizer = make_tokenizer(plan.seed)

    def keep(net: Net, step: int) -> None:
        export(net, tokenizer, chosen.out)
        say(f"exported step {step}")

    net, made = train(tokenizer, Shape(), plan, chosen.work, chosen.device, say, keep)
    export(net, tokenizer, chosen.out)
    return made


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
