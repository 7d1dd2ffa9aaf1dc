"""What a member shows, renewed: all of it or nothing, and a full disk is no end."""

from __future__ import annotations

import tempfile

import pytest

from manyhands.errors import ResourceError, UserError
from manyhands.net.tls import Contexts
from tls_cases import OTHER_SWARM, member
from transport_conformance import KEYS

ANNAS, BENS, _ = KEYS


def test_with_nowhere_for_temporary_files_it_is_said_and_can_be_tried_again(tmp_path, monkeypatch):
    contexts = Contexts(member(ANNAS))
    before, after = contexts.membership, member(ANNAS, serial=8)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ResourceError, match="TMPDIR"):
        contexts.renew(after)
    assert contexts.membership is before
    with pytest.raises(ResourceError, match="TMPDIR"):
        Contexts(member(BENS))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    contexts.renew(after)
    assert contexts.membership is after
    assert not list(tmp_path.iterdir())


def test_another_peer_or_swarm_is_no_renewal():
    contexts = Contexts(member(ANNAS))
    with pytest.raises(UserError, match="another peer"):
        contexts.renew(member(BENS))
    with pytest.raises(UserError, match="another swarm"):
        contexts.renew(member(ANNAS, OTHER_SWARM))
