"""Models and ranges from the hub, by huggingface_hub, against a server that speaks like it."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from hub_house import COMMIT, hub_house
from manyhands.errors import CheckpointError
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.hub import Hub, is_of_hub, is_origin, origin_of
from manyhands.store.pieces import WholeFolder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.make("llama-sharded", tmp_path_factory.mktemp("models") / "little")


def test_a_model_is_downloaded_once_and_knows_where_it_is_from(source, tmp_path):
    with hub_house(source) as house:
        hub = Hub(house.url, tmp_path)
        folder = hub.folder("owner/little")
        checkpoint = Checkpoint.open(folder)
        assert checkpoint.identity() == Checkpoint.open(source).identity()
        assert origin_of(folder) == f"owner/little@{COMMIT}"
        assert WholeFolder(checkpoint, checkpoint.identity()).origin == origin_of(folder)
        before = house.given_bytes
        assert hub.folder("owner/little") == folder
        assert house.given_bytes == before
        house.is_down = True
        assert hub.folder("owner/little") == folder  # as it is cached


def test_a_range_of_a_file_costs_its_bytes_and_no_more(source, tmp_path):
    file = next(source.glob("*.safetensors"))
    with hub_house(source) as house:
        hub = Hub(house.url, tmp_path)
        data = hub.read(f"owner/little@{COMMIT}", file.name, 1000, 5000)
        assert data == file.read_bytes()[1000:5000]
        assert house.given_bytes == 4000
        with pytest.raises(CheckpointError, match="HTTP 404"):
            hub.read(f"owner/little@{COMMIT}", "other.json", 0, 5)
        with pytest.raises(CheckpointError, match="no place at the hub"):
            hub.read("owner/little@main", file.name, 0, 5)


def test_what_the_hub_does_not_give_is_said(source, tmp_path):
    nobody = pytest.raises(CheckpointError, match="the hub knows no model owner/other")
    with hub_house(source) as house, nobody:
        Hub(house.url, tmp_path).folder("owner/other")
    with pytest.raises(CheckpointError, match="cannot be downloaded and is not cached"):
        Hub(house.url, tmp_path).folder("owner/unseen")
    with pytest.raises(CheckpointError, match="cannot be had"):
        Hub(house.url, tmp_path).read(f"owner/little@{COMMIT}", "config.json", 0, 5)


def test_only_names_that_are_no_folders_are_of_the_hub(tmp_path):
    assert is_of_hub("owner/little")
    assert not is_of_hub(str(tmp_path))
    assert not is_of_hub("storyteller")
    assert is_origin("")
    assert not is_origin("owner/little@main")
    assert origin_of(Path("/models/little")) == ""
