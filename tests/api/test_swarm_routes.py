"""Looking on: a snapshot now, another at every change, an end when the reader leaves."""

from __future__ import annotations

import json
from contextlib import ExitStack

from api_events import blocks
from api_house import house
from manyhands.api.desk import MOST_VIEWERS


def loaded(snapshot) -> list[tuple[int, int]]:
    return [
        (held["first"], held["last"])
        for peer in snapshot["peers"]
        for held in peer["holdings"]
        if held["state"] == "ready"
    ]


def test_the_snapshot_names_models_peers_and_their_layers(served, http):
    seen = http.get("/swarm").json()
    assert seen["peer"] == served.swarm.owner.peer
    assert sorted(loaded(seen)) == [(0, 3), (3, 6), (6, 8)]
    assert seen["version"] == "0.0.test"
    (model,) = seen["models"]
    assert (model["name"], model["layers"], model["context"]) == ("tiny", 8, 512)
    assert (model["chats"], model["hears_system"], model["missing"]) == (True, True, [])
    assert http.get("/health").json() == {"status": "ok"}


def test_nothing_secret_is_in_it(served, http):
    text = http.get("/swarm").text
    for node in served.swarm.alive().values():
        assert node.directory._keys._private.private_bytes_raw().hex() not in text
    for word in ("address", "invite", "secret", "key", "session", "memory:"):
        assert word not in json.dumps(json.loads(text)).replace("kernels", "")


def test_a_loss_comes_as_a_new_snapshot_at_once(llama):
    with (
        house(llama) as built,
        built.http() as http,
        http.stream("GET", "/swarm/events") as response,
    ):
        told = (one for one in blocks(response.iter_lines()) if one.name == "swarm")
        assert len(next(told).value["peers"]) == 3

        async def kill() -> None:
            built.swarm.kill(2)

        built.run(kill())
        after = next(told).value
        assert len(after["peers"]) == 2
        (model,) = after["models"]
        assert model["coverage"][-1]["state"] == "stored"


def test_a_reader_that_leaves_makes_room_and_too_many_are_told_so(served, http):
    def open_feed(stack: ExitStack):
        return stack.enter_context(http.stream("GET", "/swarm/events"))

    with ExitStack() as stack:
        for _ in range(MOST_VIEWERS):
            assert open_feed(stack).status_code == 200
        refused = http.get("/swarm/events")
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
    desk_is_free(served)
    with ExitStack() as stack:
        assert open_feed(stack).status_code == 200


def desk_is_free(served) -> None:
    def is_free() -> bool:
        with served.http() as http, http.stream("GET", "/swarm/events") as response:
            return response.status_code == 200

    assert any(is_free() for _ in range(200))
