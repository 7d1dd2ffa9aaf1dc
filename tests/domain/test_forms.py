"""Profiles and tensor frames."""

from dataclasses import fields, replace

import pytest

from manyhands.domain.profile import Profile
from manyhands.domain.tensor_frame import TensorFrame


def profile(**changed) -> Profile:
    base = Profile(
        weights="aa",
        weight_format="bf16",
        arithmetic="fp32",
        kernels="numpy",
        wire_codec="plain32",
        row_invariant=False,
        tolerance=1e-4,
    )
    return replace(base, **changed)


def test_the_digest_of_a_profile_changes_with_every_field():
    changed = {
        field.name: {str: "other", bool: True, float: 0.5}.get(
            type(getattr(profile(), field.name)), ("other",)
        )
        for field in fields(Profile)
    }
    digests = {profile(**{name: value}).digest() for name, value in changed.items()}
    assert len(digests | {profile().digest()}) == len(changed) + 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_frames_rows_all_take_the_same_bytes(kind):
    assert TensorFrame("plain32", (3, 5), kind(bytes(60))).row_bytes == 20
    assert TensorFrame("plain32", (0, 5), kind(b"")).row_bytes == 0
