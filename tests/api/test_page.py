"""The page: its files, headers and addresses; no request leaves the server it came from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import manyhands.api
from api_house import house
from manyhands.api.page import page_files

WEB = Path(manyhands.api.__file__).parent / "web"
SCRIPTS = sorted(WEB.glob("*.js"))


@pytest.fixture(scope="module")
def client(llama):
    with house(llama, peers=1, api_key="k") as built, built.http() as made:
        yield made


@pytest.mark.parametrize("path", [file.path for file in page_files()])
def test_every_file_is_served_without_a_key_under_a_strict_policy(client, path):
    response = client.get(path)
    assert response.status_code == 200
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert client.head(path).headers["etag"] == response.headers["etag"]
    again = client.get(path, headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/web/", "/web/none.js", "/web/../app.py", "/web/%2e%2e/app.py", "/web//style.css"]
)
def test_nothing_else_of_the_disk_is_served(client, path):
    response = client.get(path, headers={"authorization": "Bearer k"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_every_address_in_the_page_is_its_own_server_and_exists(client):
    known = {file.path for file in page_files()} | {"/openapi.json", "/v1/chat/completions"}
    known |= {"/v1/completions", "/swarm/events", "/swarm/key", "/swarm/newcomers"}
    known |= {"/swarm/invites", "/swarm/plan"}
    for file in page_files():
        text = file.body.decode()
        if file.kind.startswith("image"):
            text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.findall(
            r"(?:https?:)?//[a-z0-9]", re.sub(r"^\s*//.*$|// .*$", "", text, flags=re.M)
        )
        assert "@import" not in text
        assert "url(" not in text
        for address in re.findall(r"""(?:src|href)="(?!#)([^"]+)"|from "([^"]+)\"""", text):
            assert "".join(address) in known
        for address in re.findall(r"""(?:ask|askAsOwner|fetch)\("([^"]+)"[,)]""", text):
            assert address in known


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_text_is_ever_taken_for_markup(script):
    text = script.read_text(encoding="utf-8")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
    ):
        assert word not in text


@pytest.mark.parametrize("page", sorted(WEB.glob("*.html")), ids=lambda page: page.name)
def test_pages_hold_no_script_and_no_style_of_their_own(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:", text)


def test_every_element_a_script_asks_for_is_on_the_page():
    ids = set(re.findall(r'id="([^"]+)"', "".join(p.read_text() for p in WEB.glob("*.html"))))
    for script in SCRIPTS:
        asked = set(re.findall(r'byId\("([^"]+)"\)', script.read_text(encoding="utf-8")))
        assert asked <= ids, script.name


def test_the_schema_names_every_route_and_needs_no_key(client):
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/models",
        "/v1/models/{name}",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/health",
        "/swarm",
        "/swarm/events",
    }
    assert "messages" in json.dumps(schema["components"]["schemas"]["ChatBody"])
