"""What only whoever runs the swarm may ask: guarded, and answered as `hands` is."""

from __future__ import annotations

import pytest

from api_house import house
from manyhands.api.control_routes import HEADER
from manyhands.api.serving import Control, PlanAsked
from manyhands.domain.settings import Settings
from manyhands.errors import ResourceError, UserError
from manyhands.launch.joining import DoorAddress
from manyhands.launch.link import read_link, write_link
from manyhands.node.founder import Founder
from manyhands.trust.signature import KeyPair
from tls_cases import NOW_S, SWARM

OWNER = {HEADER: "owners-key"}
POSTS = {
    "/swarm/newcomers": {"code": "123-456", "approve": True},
    "/swarm/invites": {},
    "/swarm/passes": None,
    "/swarm/plan": {"model": "tiny"},
}


class Planner:
    """Says what it was asked."""

    names = ("tiny", "Llama-3.3-70B")
    formats = ("auto", "int4")

    async def plan(self, asked: PlanAsked, swarm):
        if asked.model == "huge":
            raise ResourceError("it fits nowhere. Add a device")
        if asked.model == "none":
            raise UserError("'none' is no model's name")
        return {"model": asked.model, "more": asked.more, "peers": len(swarm["peers"])}


@pytest.fixture(scope="module")
def founder():
    return Founder(SWARM, KeyPair.from_seed(b"a" * 32), Settings(), lambda: NOW_S, lambda: 7)


@pytest.fixture(scope="module")
def http(llama, founder):
    control = Control(
        "owners-key",
        founder,
        lambda invite: write_link((DoorAddress("10.0.0.5", 7702),), invite),
        Planner(),
    )
    with house(llama, control=control) as built, built.http() as made:
        yield made


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "shown", [{}, {HEADER: "guess"}, {HEADER: ""}, {"authorization": "Bearer owners-key"}]
)
def test_nobody_else_may_ask(http, path, shown):
    for method in ("POST", "GET"):
        if (method, path) in {("GET", "/swarm/invites"), ("GET", "/swarm/passes")}:
            continue
        said = http.request(method, path, json=POSTS[path], headers=shown)
        assert said.status_code == 403, (method, path)
        assert "hands page" in said.json()["error"]["message"]


@pytest.mark.parametrize("path", [*POSTS, "/swarm/key"])
def test_not_another_sites_page_nor_by_a_rebound_name(http, path):
    body = POSTS.get(path, {"pass": "x"})
    for headers, code in (
        ({"origin": "https://evil.example"}, "origin_not_allowed"),
        ({"host": "evil.example:7700"}, "host_not_allowed"),
    ):
        said = http.post(path, json=body, headers={**OWNER, **headers})
        assert (said.status_code, said.json()["error"]["code"]) == (403, code)


def test_a_site_that_may_ask_for_answers_may_not_send_the_owners_key(llama, founder):
    site = "https://example.org"
    control = Control("owners-key", founder)
    with house(llama, 1, control=control, allowed_origins=(site,)) as built, built.http() as http:
        before = http.options(
            "/swarm/invites", headers={"origin": site, "access-control-request-method": "POST"}
        )
        assert HEADER not in before.headers["access-control-allow-headers"]


def test_with_an_api_key_both_are_needed(llama, founder):
    control = Control("owners-key", founder)
    with house(llama, 1, control=control, api_key="k") as built, built.http() as http:
        assert http.post("/swarm/passes", headers=OWNER).status_code == 401
        assert http.post("/swarm/key", json={"pass": "x"}).status_code == 401
        both = {**OWNER, "authorization": "Bearer k"}
        assert http.post("/swarm/passes", headers=both).status_code == 200
        assert http.post("/swarm/plan", json={"model": "m"}, headers=both).status_code == 404


def test_a_pass_makes_the_page_its_owners_once(http):
    made = http.post("/swarm/passes", headers=OWNER).json()
    assert made["life_s"] == 300
    key = http.post("/swarm/key", json={"pass": made["pass"]}).json()["key"]
    page = {HEADER: key}
    assert http.get("/swarm/newcomers", headers=page).json() == {"newcomers": []}
    assert http.post("/swarm/invites", json={}, headers=page).status_code == 200
    again = http.post("/swarm/key", json={"pass": made["pass"]})
    assert again.status_code == 400
    assert "hands page" in again.json()["error"]["message"]
    assert http.get("/swarm/newcomers", headers={HEADER: made["pass"]}).status_code == 403


@pytest.mark.parametrize("body", [{}, {"pass": 7}, {"pass": "x" * 201}, {"pass": "x", "more": 1}])
def test_an_odd_pass_is_refused_by_its_form(http, body):
    assert http.post("/swarm/key", json=body).status_code == 400


def test_an_invite_comes_as_text_link_and_picture(http):
    made = http.post("/swarm/invites", json={"life_s": 600.0}, headers=OWNER).json()
    link = read_link(made["link"])
    assert link.invite.text == made["text"]
    assert str(link.doors[0]) == "10.0.0.5:7702"
    assert made["life_s"] == 600
    assert made["qr"]["path"].startswith("M4 4h7v1h-7z")
    assert 20 < made["qr"]["side"] < 80
    for odd in ({"life_s": 0}, {"life_s": 1e12}, {"guest_s": -1}, {"for": "1h"}):
        assert http.post("/swarm/invites", json=odd, headers=OWNER).status_code == 400


def test_a_plan_is_the_planners_over_the_swarm_as_it_is_told(http):
    told = http.get("/swarm/plan", headers=OWNER).json()
    assert told == {"models": ["tiny", "Llama-3.3-70B"], "formats": ["auto", "int4"]}
    asked = http.post("/swarm/plan", json={"model": "tiny", "more": 2}, headers=OWNER)
    assert asked.json() == {"model": "tiny", "more": 2, "peers": 3}


def test_what_a_planner_cannot_is_said(http):
    huge = http.post("/swarm/plan", json={"model": "huge"}, headers=OWNER)
    assert (huge.status_code, huge.json()["error"]["message"][:10]) == (503, "it fits no")
    none = http.post("/swarm/plan", json={"model": "none"}, headers=OWNER)
    assert none.status_code == 400


@pytest.mark.parametrize(
    "change",
    [{"model": ""}, {"model": "x" * 201}, {"more": 65}, {"more": "2"}, {"context": 0}, {"x": 1}],
)
def test_an_odd_question_is_refused_by_its_form(http, change):
    said = http.post("/swarm/plan", json={"model": "tiny", **change}, headers=OWNER)
    assert said.status_code == 400


def test_they_are_in_no_schema(http):
    assert not any(path in http.get("/openapi.json").text for path in (*POSTS, "/swarm/key"))
