"""Fleets: those whose members never hear of each other say so instead of waiting for ever."""

import pytest

from hash_swarm import MODEL
from manyhands.domain.settings import Settings
from manyhands.domain.span import even_cuts
from manyhands.errors import DeadlinePassed
from manyhands.net.memory import Path
from manyhands.sim.fleet import Fleet, Member
from manyhands.sim.virtual_loop import run_virtual


def test_a_fleet_whose_members_never_hear_of_each_other_names_them_at_the_deadline() -> None:
    members = [Member((span,)) for span in even_cuts(8, 2)]

    async def main() -> None:
        far = Path(latency_s=100.0)  # no dial ends before its deadline
        async with Fleet(1, MODEL, members, settings=Settings(load_deadline_s=20.0), path=far):
            pass

    with pytest.raises(DeadlinePassed, match=r"member 0 does not know what \[1\] hold") as raised:
        run_virtual(main)
    assert "load_deadline_s" in str(raised.value)
