"""`python -m recipes.storyteller`: tells the corpus, trains tokenizer and model, writes the folder.

Nothing is downloaded. `--device cuda` trains on a GPU; `--work` keeps what is needed to go on after
a stop; `--card` only samples, checks and writes the model card of the folder that is there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

import tokenizers
import torch

from recipes.storyteller import tokens
from recipes.storyteller.export import export
from recipes.storyteller.grammar import tell
from recipes.storyteller.net import Net, Shape
from recipes.storyteller.training import Plan, train

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
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    plan, shape = Plan(steps=chosen.steps), Shape()
    made = make_tokenizer(plan.seed)

    def keep(net: Net, step: int) -> None:
        export(net, made, chosen.out)
        say(f"exported step {step}")

    done = train(made, shape, plan, chosen.work, chosen.device, say, keep)
    say(f"tokens {done.tokens} seconds {done.seconds:.0f} held-out loss {done.held_out:.4f}")


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
