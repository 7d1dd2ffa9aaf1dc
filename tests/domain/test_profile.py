"""Profiles: the same arithmetic in other versions is told apart from other arithmetic."""

from dataclasses import replace

import pytest

from node_cases import PROFILE


@pytest.mark.parametrize(
    ("others", "is_same"),
    [
        ("torch-bf16-1-2.6.0-amx", True),
        ("torch-bf16-2-2.6.0-amx", True),
        ("torch-bf16-1-2.7.1-plain", True),
        ("torch-fp32-1-2.6.0-amx", False),
        ("numpy-bf16-2.1", False),
        ("torch", False),
        ("", False),
    ],
)
def test_versions_may_differ_and_engine_and_dtype_may_not(others, is_same):
    assert replace(PROFILE, kernels="torch-bf16-1-2.6.0-amx").allows(others) == is_same
    accepting = replace(PROFILE, kernels="torch-bf16-1-2.6.0-amx", accepts=(others,))
    assert accepting.allows(others)


def test_another_engine_may_be_accepted_in_all_its_versions():
    made = replace(PROFILE, kernels="torch-int8-1-2.6.0", accepts=("numpy-int8",))
    assert made.allows("numpy-int8-1-2.4.6-compiled")
    assert not made.allows("numpy-int4-1-2.4.6-compiled")
    assert not made.allows("numpy")


def test_a_profile_is_named_by_everything_in_it():
    changes = {"kernels": "k", "tolerance": 0.5, "accepts": ("k",), "row_invariant": False}
    others = {replace(PROFILE, **{name: value}).digest() for name, value in changes.items()}
    assert len({PROFILE.digest(), *others}) == len(changes) + 1
    assert replace(PROFILE).digest() == PROFILE.digest()
