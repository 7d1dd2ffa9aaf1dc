"""`hands page`: a link that makes the page its owner's, once."""

import json
import urllib.error
import urllib.request

import pytest
from verbs import Verb, done

pytestmark = pytest.mark.timeout(180)
PORTS = ("--http-port", "0", "--peers-port", "0", "--door-port", "0")


def posted(url, path, body, **headers):
    told = {"Content-Type": "application/json", **headers}
    asked = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), told)
    with urllib.request.urlopen(asked, timeout=60) as response:
        return json.load(response)


def test_the_link_opens_the_page_once_and_plans_and_invites(tmp_path):
    with Verb("serve", *PORTS, home=tmp_path) as serving:
        url = serving.event("ready")["url"]
        said = done("page", home=tmp_path)
        assert said.returncode == 0, said
        link = said.stdout.split()[0]
        assert link.startswith(f"{url}/#pass=")
        assert "Keep it to yourself" in said.stdout
        shown = link.partition("#pass=")[2]
        key = {"X-Manyhands-Control": posted(url, "/swarm/key", {"pass": shown})["key"]}
        assert posted(url, "/swarm/invites", {}, **key)["link"].startswith("manyhands://")
        planned = posted(url, "/swarm/plan", {"model": "storyteller"}, **key)
        assert planned["stages"][0]["first"] == 0
        assert planned["answer_tok_s"] > 0
        with pytest.raises(urllib.error.HTTPError, match="400"):
            posted(url, "/swarm/key", {"pass": shown})
        again = json.loads(done("page", "--json", home=tmp_path).stdout)
        assert (again["event"], again["life_s"]) == ("page", 300)
        assert shown not in again["link"]


def test_where_nothing_runs_there_is_no_page(tmp_path):
    said = done("page", home=tmp_path)
    assert said.returncode == 2
    assert "nothing runs here" in said.stderr
