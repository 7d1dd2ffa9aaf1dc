"""The page's plan: the same figures as `hands plan` over the same swarm, beside the event loop."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from test_plan import HERE, Served, measured

from founding_house import small
from manyhands.api.serving import PlanAsked
from manyhands.api.swarm_view import swarm_view
from manyhands.cli.console import Console
from manyhands.cli.plan import PlanOptions, plan
from manyhands.cli.preview import Preview
from manyhands.domain.device import Link
from manyhands.errors import ResourceError, UserError
from manyhands.node.opened import Opened
from manyhands.store.builtin import folder_of
from small_swarms import peer_id, record, swarm


def opened(name: str = "storyteller") -> Opened:
    return replace(small(folder_of("storyteller")), name=name)


def quick(*words, stop):
    """`measured`, which may be told to stop."""
    assert isinstance(stop, threading.Event)
    return measured(*words)


def seen(*numbers):
    ends = [(a, b) for a in numbers for b in numbers if a != b]
    links = tuple(Link(peer_id(a), peer_id(b), 0.001, 1e8) for a, b in ends)
    records = [record(number, of=HERE) for number in numbers]
    return json.loads(json.dumps(swarm_view(swarm(*records, links=links), peer_id(1), [], 0)))


async def asked(name, *numbers, form="int4", more=0, of=None):
    preview = Preview(of or opened(), quick)
    return await preview.plan(PlanAsked(name, form, 4096, more), seen(*(numbers or (1,))))


async def test_it_says_what_the_command_says(capsys):
    told = await asked("llama-70b", 1, 2, 3)
    api = Served(seen(1, 2, 3))
    plan(Console(as_json=True), PlanOptions(("llama-70b",), form="int4"), api, measured)
    said = json.loads(capsys.readouterr().out)
    assert told.pop("busy") == 0.0
    assert {"event": "plan", **json.loads(json.dumps(told))} == said
    assert said["over"] == "swarm"


async def test_with_more_devices_what_did_not_fit_does():
    with pytest.raises(ResourceError, match="Add a device"):
        await asked("llama-70b", 1)
    told = await asked("llama-70b", 1, more=2)
    assert len(told["stages"]) == 3
    assert told["stages"][0]["peer"] == peer_id(1) or told["left_out"] == []


async def test_the_command_counts_them_beside_what_runs_as_well(capsys):
    options = PlanOptions(("llama-70b",), form="int4", more=2)
    plan(Console(as_json=False), options, Served(seen(1)), measured)
    said = capsys.readouterr().out
    assert "this machine" in said
    assert "device 1" in said
    assert "device 2" in said


async def test_the_model_that_runs_is_known_by_the_name_it_is_served_under():
    told = await asked("acme/story", form="auto", of=opened("acme/story"))
    assert (told["model"], told["context"]) == ("acme/story", 1024)
    assert Preview(opened("acme/story")).names[:2] == ("acme/story", "Qwen2.5-0.5B")
    assert (await asked("storyteller", form="auto"))["format"] == "fp32"


@pytest.mark.parametrize("name", ["/", "/etc", "..", "~", "~nobody", "a\x00b", "x y", "\u202ex"])
async def test_no_folder_of_the_disk_is_looked_at(name):
    with pytest.raises(UserError, match="is no model's name"):
        await asked(name)


async def test_an_unknown_name_or_format_says_what_there_is():
    with pytest.raises(UserError, match="one of: "):
        await asked("nobody-knows-it")
    with pytest.raises(UserError, match="auto, fp32"):
        await asked("qwen3-4b", form="int3")


async def test_the_loop_goes_on_meanwhile_and_an_end_stops_the_measuring():
    begun, stopped = threading.Event(), threading.Event()

    def slow(*words, stop):
        begun.set()
        assert stop.wait(20)
        stopped.set()
        return measured(*words)

    work = asyncio.ensure_future  # noqa: TID251  (a task to be cancelled is what is tried)
    planning = work(Preview(opened(), slow).plan(PlanAsked("qwen3-4b", "auto", 9, 0), seen(1)))
    assert await asyncio.to_thread(begun.wait, 20)
    planning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await planning
    assert await asyncio.to_thread(stopped.wait, 20)
