"""Plays the schedule of one seed again, exactly, and tells what happened.

python tools/replay.py SEED [safety|liveness]
"""

from __future__ import annotations

import argparse
import logging
from typing import get_args

from manyhands.domain.ids import ModelId
from manyhands.node.model import Model
from manyhands.sim.hash_engine import HashEngine, hash_profile, hash_spec
from manyhands.sim.scenario import play, truth
from manyhands.sim.schedule import Mode, judge, scenario

BLOCKS = 6


def main() -> None:
    """Print the scenario, every state change as it happens, and the ending."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("seed", type=int)
    arguments.add_argument("mode", nargs="?", choices=get_args(Mode), default="safety")
    asked = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    drawn = scenario(asked.seed, asked.mode)
    spec, name = hash_spec(BLOCKS), ModelId("ab" * 32)
    model = Model(name, spec, hash_profile(name), lambda x: HashEngine(spec, x), (spec.span,))
    print(drawn)
    ending = play(drawn, model)
    print(f"spoke {len(ending.spoken)} of {drawn.tokens} tokens in {ending.virtual_s:.2f} s")
    print(f"longest pause {ending.longest_pause_s:.2f} s, {ending.recoveries} recoveries")
    print(f"error {ending.error!r}, trace {ending.trace[:16]}")
    print(judge(drawn, ending, truth(drawn, model), asked.mode) or "nothing broken")


if __name__ == "__main__":
    main()
