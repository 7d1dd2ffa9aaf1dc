"""`hands serve OWNER/NAME` takes a model from the hub; who joins takes its span from the house."""

from __future__ import annotations

import pytest
from verbs import Verb

import tiny
from hub_house import hub_house

pytestmark = pytest.mark.timeout(180)
ANY_PORT = ("--http-port", "0", "--peers-port", "0", "--door-port", "0", "--engine", "numpy")


def test_one_download_for_the_whole_house_and_none_for_the_second_start(tmp_path):
    source = tiny.make("llama-sharded", tmp_path / "little")
    with hub_house(source) as hub:
        online = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        words = ("serve", "owner/little", *ANY_PORT, "--span", "0:3")
        with Verb(*words, home=tmp_path / "one", **online) as serving:
            assert serving.event("loading")["model"] == "owner/little"
            ready = serving.event("ready")
            once = hub.given_bytes
            assert once > 0
            invite = {"MANYHANDS_INVITE": ready["invite"]}
            with Verb("join", ready["door"], home=tmp_path / "two", **online, **invite) as joined:
                loading = joined.event("loading")
                assert (loading["model"], loading["first"]) == ("owner/little", 3)
                joined.event("ready")
                assert len(list((tmp_path / "two" / "models").glob("*/*.safetensors"))) > 1
                assert serving.event("coverage") is not None
                assert hub.given_bytes == once
                assert joined.interrupt() == 0
            assert serving.interrupt() == 0
        hub.is_down = True
        with Verb(*words, home=tmp_path / "one", **online) as serving:
            serving.event("ready")
            assert serving.interrupt() == 0
    assert hub.given_bytes == once
