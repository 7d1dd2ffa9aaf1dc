"""`hands plan`: from names, folders and a running swarm to predictions; nothing is loaded."""

import json
from dataclasses import dataclass, replace

import pytest

from manyhands.api.swarm_view import ServedModel, swarm_view
from manyhands.cli.console import Console
from manyhands.cli.plan import PlanOptions, plan
from manyhands.domain.device import Device, Link
from manyhands.domain.span import Span
from manyhands.domain.swarm import Holding
from manyhands.engine.measure import Measured
from manyhands.errors import ManyhandsError, ResourceError, UserError
from small_swarms import MODEL, peer_id, record, swarm

HERE = Device("cpu", 20 << 30, 25e9, 400e9, 5e-5)


def measured(engine, dtype, threads, _clock):
    """Figures of a certain machine: what is planned must not depend on where a test runs."""
    named = {"auto": "bf16" if engine == "auto" else "fp32"}.get(dtype, dtype)
    return Measured(HERE, "numpy", named, threads, 2.0, 2.0, 0.1)


@dataclass
class Served:
    """A running swarm's own view of itself."""

    view: object
    url: str = "http://127.0.0.1:7700"

    def get(self, path):
        assert path == "/swarm"
        return json.loads(json.dumps(self.view))

    def no_swarm(self):
        return ManyhandsError("that is no swarm")


def told(capsys, *models, api=None, **options):
    plan(Console(as_json=True), PlanOptions(models, **options), api, measured)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return found[0] if len(models) == 1 else found


def test_a_known_model_is_found_by_parts_of_its_name(capsys):
    found = told(capsys, "llama-70b", form="int4", more=2)
    assert found["model"] == "Llama-3.3-70B"
    assert found["format"] == "int4"
    assert len(found["stages"]) == 3
    assert found["alone_tok_s"] is None
    # three devices read 41 GB one after the other at 25 GB/s: about 1.6 s a token
    assert found["answer_tok_s"] == pytest.approx(1 / 1.6, rel=0.1)
    assert told(capsys, "Qwen/Qwen3-4B")["model"] == "Qwen3-4B"


def test_a_device_that_holds_it_alone_is_not_helped_by_another_but_many_answers_are(capsys):
    alone = told(capsys, "qwen3-4b")
    assert alone["answer_tok_s"] == pytest.approx(25e9 / 8.0e9, rel=0.1)
    two = told(capsys, "qwen3-4b", more=1)
    assert two["answer_tok_s"] == alone["answer_tok_s"]
    assert len(two["left_out"]) == 1
    assert two["many"]["by"] == "2 whole copies"
    assert [len(route["stages"]) for route in two["many"]["routes"]] == [1, 1]
    assert two["total_tok_s"] > 1.9 * alone["total_tok_s"]


def test_a_folder_is_planned_in_what_it_would_be_served_in(capsys):
    found = told(capsys, "storyteller")
    assert found["format"] == "fp32"
    assert found["context"] == 1024
    assert told(capsys, "storyteller", form="bf16")["needed_bytes"] < 0.6 * found["needed_bytes"]


def test_words_for_a_person_name_the_machines_and_what_was_counted_instead(capsys):
    plan(Console(as_json=False), PlanOptions(("llama-70b",), form="int4", more=3), None, measured)
    said = capsys.readouterr().out
    for words in ("this machine", "device 2", "ms a token", "left out", "it fits on none"):
        assert words in said
    assert "tok/s by one pipeline of " in said
    assert "first token" in said
    assert "s behind a prompt of 512" in said
    assert "tensor split" not in said  # over a network so modest it would be slower


def test_over_a_running_swarm_its_devices_and_links_count(capsys):
    fast, slow = Device("cpu", 30 << 30, 50e9, 1e12, 5e-5), Device("cpu", 4 << 30, 5e9, 1e11, 5e-5)
    links = tuple(Link(peer_id(a), peer_id(b), 0.001, 1e8) for a, b in ((1, 2), (2, 1)))
    view = swarm_view(swarm(record(1, of=slow), record(2, of=fast), links=links), peer_id(1), [], 0)
    found = told(capsys, "qwen3-4b", api=Served(view))
    assert found["over"] == "swarm"
    assert [stage["peer"] for stage in found["stages"]] == [peer_id(2)]
    plan(Console(as_json=False), PlanOptions(("qwen3-4b",)), Served(view), measured)
    assert peer_id(2)[:8] in capsys.readouterr().out


def test_several_models_share_the_devices_and_none_takes_what_another_has(capsys):
    large, small = told(capsys, "llama-3.1-8b", "qwen3-4b", form="bf16", more=1)
    assert (large["model"], small["model"]) == ("Llama-3.1-8B", "Qwen3-4B")
    assert {stage["peer"] for stage in large["stages"]}.isdisjoint(
        stage["peer"] for stage in small["stages"]
    )
    turned = told(capsys, "qwen3-4b", "llama-3.1-8b", form="bf16", more=1)
    assert [one["answer_tok_s"] for one in turned] == [small["answer_tok_s"], large["answer_tok_s"]]
    with pytest.raises(ResourceError, match="Add a device"):
        told(capsys, "llama-3.1-8b", "llama-3.2-3b", "qwen3-4b", form="bf16")
    with pytest.raises(UserError, match="1 to 3 models"):
        told(capsys, *["qwen3-4b"] * 4)


def test_what_a_running_swarm_holds_of_another_model_is_not_planned_again(capsys):
    """It was, before: all of a device's memory counted as free, whatever lay in it."""
    here = Device("cpu", 20 << 30, 50e9, 1e12, 5e-5)

    def view(model, room):
        held = (Holding(MODEL, Span(0, 26), "ready"),)
        busy = replace(record(1, of=here, room=room), holdings=held)
        served = ServedModel(model, MODEL, 38, 4096, True, True, True)
        return Served(swarm_view(swarm(busy, record(2, of=here)), peer_id(1), [served], 0))

    same = told(capsys, "qwen3-4b", api=view("Qwen3-4B", 8 << 30))
    assert [stage["peer"] for stage in same["stages"]] == [peer_id(1)]
    other = told(capsys, "qwen3-4b", api=view("another", 8 << 30))
    assert [stage["peer"] for stage in other["stages"]] == [peer_id(2)]
    assert told(capsys, "qwen3-4b", api=view("another", 14 << 30))["stages"] == same["stages"]


def test_a_tensor_split_that_would_be_quicker_is_named_and_said_not_to_be_there(capsys):
    here = Device("cpu", 40 << 30, 25e9, 4e11, 5e-5)
    links = tuple(Link(peer_id(a), peer_id(b), 0.0005, 125e6) for a, b in ((1, 2), (2, 1)))
    view = swarm_view(swarm(record(1, of=here), record(2, of=here), links=links), peer_id(1), [], 0)
    found = told(capsys, "llama-70b", form="int4", api=Served(view))
    assert found["tensor_split"]["peers"] == [peer_id(1), peer_id(2)]
    assert 1.5 < 1 / found["tensor_split"]["step_s"] / found["answer_tok_s"] < 2
    plan(Console(as_json=False), PlanOptions(("llama-70b",), "int4"), Served(view), measured)
    said = capsys.readouterr().out
    assert "instead, tensor split over 2: " in said
    assert "not offered" in said


def test_bad_input_says_what_to_type(capsys):
    with pytest.raises(UserError, match=r"one of: Llama-3.2-1B, .*Llama-3.3-70B"):
        told(capsys, "llama")
    with pytest.raises(UserError, match="no folder here"):
        told(capsys, "nobody-knows-it")
    with pytest.raises(UserError, match="auto, fp32, bf16, int8, int4"):
        told(capsys, "qwen3-4b", form="int3")
    with pytest.raises(UserError, match="--context must be 1 or more"):
        told(capsys, "qwen3-4b", context=0)
    with pytest.raises(ResourceError, match="Add a device"):
        told(capsys, "llama-70b")
    with pytest.raises(ManyhandsError, match="no swarm"):
        told(capsys, "qwen3-4b", api=Served({"peers": 7}))


def test_spans_given_by_hand_are_planned_so_and_marked(capsys):
    found = told(capsys, "qwen3-4b", more=1, spans=("0:10", "0101=10:38"))
    assert [(s["first"], s["last"], s["by_hand"]) for s in found["stages"]] == [
        (0, 10, True),
        (10, 38, True),
    ]


def test_a_home_that_nobody_has_is_said(capsys):
    with pytest.raises(UserError, match="cannot be expanded"):
        told(capsys, "~nobody-of-this-name/model")
