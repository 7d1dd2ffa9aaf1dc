"""Who may ask: hosts, origins and keys, one by one and at a real server."""

from __future__ import annotations

import pytest

from api_house import CHAT, house
from manyhands.api.guard import Access, check_access
from manyhands.errors import UserError

SITE = "https://example.org"


def access(host: str = "127.0.0.1", **changes) -> Access:
    given = {
        "host": host,
        "api_key": "k",
        "allowed_hosts": (),
        "allowed_origins": (),
        "pages": frozenset(),
        "open_paths": frozenset(),
    }
    return Access(**{**given, **changes})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_a_loopback_address_needs_no_key(host):
    check_access(host, None)
    assert access(host, api_key=None).has_key("")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "anna.local", "2130706433"])
def test_every_other_address_does(host):
    with pytest.raises(UserError, match="--api-key or MANYHANDS_API_KEY"):
        check_access(host, None)
    with pytest.raises(UserError, match="--api-key or MANYHANDS_API_KEY"):
        access(host, api_key=None)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        (" k ", "spaces around"),
        ("k\n", "spaces around"),
        ("schlüssel", "ASCII"),
        ("a\x00b", "ASCII"),
        ("\udc80", "ASCII"),
    ],
)
def test_a_key_that_nobody_can_send_is_refused_at_the_start(key, why):
    for make in (check_access, access):
        with pytest.raises(UserError, match=why):
            make("127.0.0.1", api_key=key)


def test_a_key_may_have_spaces_and_signs_within():
    assert access(api_key="open, sesame!").has_key("Bearer open, sesame!")


def test_names_are_known_only_when_they_were_given_and_addresses_where_all_are_served():
    assert all(map(access().knows_host, ["localhost:1", "127.0.0.1", "[::1]:80"]))
    rebound = ["evil.example", "localhost.evil.example", "127.0.0.1.nip.example", "", "10.0.0.5"]
    assert not any(map(access().knows_host, rebound))
    assert access("10.0.0.5").knows_host("10.0.0.5:7700")
    assert access(allowed_hosts=("Anna.local",)).knows_host("anna.local:7700")
    assert access("0.0.0.0").knows_host("192.168.1.7:7700")
    assert access("::").knows_host("[fe80::1]:7700")
    assert not access("0.0.0.0").knows_host("evil.example")


def test_an_origin_is_this_server_itself_or_one_that_was_named():
    ours, named = access(), access(allowed_origins=(SITE,))
    assert ours.knows_origin("http://localhost:7700", "localhost:7700")
    strangers = [SITE, "null", "http://localhost:7701", "http://localhost:7700.evil.example", ""]
    strangers += ["http://[x", "http://localhost:7700]"]
    assert not any(ours.knows_origin(origin, "localhost:7700") for origin in strangers)
    assert not ours.knows_origin("file://localhost:7700", "localhost:7700")
    assert named.knows_origin(SITE, "localhost:7700")


def test_an_allowed_origin_must_be_one():
    for wrong in ("example.org", "https://example.org/", "*", "null", "https://[x"):
        with pytest.raises(UserError, match="is no origin"):
            access(allowed_origins=(wrong,))


@pytest.mark.parametrize(
    ("header", "is_good"),
    [
        ("Bearer k", True),
        ("bearer  k ", True),
        ("Bearer K", False),
        ("Bearer kk", False),
        ("Bearer ", False),
        ("Basic k", False),
        ("k", False),
        ("", False),
        ("Bearer \ud800", False),
    ],
)
def test_only_the_key_itself_opens(header, is_good):
    assert access().has_key(header) is is_good


@pytest.fixture(scope="module")
def keyed(llama):
    with house(llama, peers=1, api_key="open-sesame", allowed_origins=(SITE,)) as built:
        yield built


@pytest.fixture(scope="module")
def http(keyed):
    with keyed.http() as made:
        yield made


KEY = {"authorization": "Bearer open-sesame"}
PRIVATE = ["/v1/models", "/swarm", "/swarm/events", "/v1/nothing", "/health/"]


@pytest.mark.parametrize("path", PRIVATE)
def test_without_the_key_nothing_is_told(http, path):
    for headers in ({}, {"authorization": "Bearer open-sesame2"}):
        response = http.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        error = response.json()["error"]
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert "open-sesame" not in response.text


def test_with_the_key_the_usual_client_works_and_with_another_it_says_so(keyed):
    with keyed.openai("open-sesame") as client:
        answer = client.chat.completions.create(model="tiny", messages=CHAT, max_tokens=2)
        assert answer.usage.completion_tokens == 2
    import openai

    with keyed.openai("wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_health_and_schema_need_no_key(http):
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("path", ["/", "/web/main.js", "/v1/models", "/health"])
def test_a_rebound_name_gets_nothing_not_even_the_page(http, path):
    response = http.get(path, headers={**KEY, "host": "evil.example:7700"})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "host_not_allowed"
    assert "--allow-host" in response.json()["error"]["message"]


def test_another_sites_page_may_not_ask_even_with_the_key(http):
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://[x"):
        for path in ("/v1/completions", "/v1/models", "/health"):
            method = "POST" if path.endswith("completions") else "GET"
            response = http.request(method, path, json=body, headers={**KEY, "origin": origin})
            assert response.status_code == 403
            assert response.json()["error"]["code"] == "origin_not_allowed"
            assert "access-control-allow-origin" not in response.headers
    assert http.get("/", headers={"origin": "https://evil.example"}).status_code == 200


def test_the_servers_own_page_and_a_named_site_may(http, keyed):
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
    for origin in (keyed.url, SITE):
        response = http.post("/v1/completions", json=body, headers={**KEY, "origin": origin})
        assert response.status_code == 200
        assert response.headers.get("access-control-allow-origin") in (None, SITE)
    asks = {"origin": SITE, "access-control-request-method": "POST"}
    before = http.options("/v1/completions", headers=asks)
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (204, SITE)
    assert "authorization" in before.headers["access-control-allow-headers"]
    strange = http.options("/v1/completions", headers={**asks, "origin": "https://evil.example"})
    assert strange.status_code == 403


def test_refusals_carry_the_protecting_headers_and_a_name_too(http):
    response = http.get("/v1/models", headers={"host": "evil.example"})
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["cache-control"] == "no-store"
