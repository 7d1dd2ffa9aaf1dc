"""One server over a small Llama in three peers, shared by the tests that lose no peer."""

import pytest

import tiny
from api_house import house


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return tiny.make("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def served(llama):
    with house(llama) as built:
        yield built


@pytest.fixture(scope="session")
def http(served):
    with served.http() as made:
        yield made


@pytest.fixture(scope="session")
def client(served):
    with served.openai() as made:
        yield made
