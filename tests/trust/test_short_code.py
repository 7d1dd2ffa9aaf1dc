"""The short code: the same for both ends, another for whoever stands between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands.domain.ids import PeerId
from manyhands.errors import UserError
from manyhands.trust.short_code import (
    NONCE_BYTES,
    commitment,
    is_commitment,
    read_code,
    short_code,
)

ANNA, BEN, EVE = (PeerId(digits * 32) for digits in ("aa", "bb", "ee"))
NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
ONE, TWO = b"1" * NONCE_BYTES, b"2" * NONCE_BYTES


@given(NONCES, NONCES)
def test_a_code_is_six_digits_and_can_be_typed_with_and_without_the_dash(one, two):
    code = short_code(ANNA, BEN, one, two)
    assert len(code) == 7
    assert code[:3].isdigit()
    assert read_code(code) == read_code(code.replace("-", " ")) == read_code(f" {code} ") == code


def test_codes_and_commitments_stay_what_they_are_between_versions():
    assert short_code(ANNA, BEN, ONE, TWO) == "173-575"
    assert commitment(ANNA, BEN, ONE).startswith("a3eb18232d6cbd0c")


def test_every_part_counts():
    code, made = short_code(ANNA, BEN, ONE, TWO), commitment(ANNA, BEN, ONE)
    others = [
        short_code(EVE, BEN, ONE, TWO),
        short_code(ANNA, EVE, ONE, TWO),
        short_code(BEN, ANNA, ONE, TWO),
        short_code(ANNA, BEN, TWO, ONE),
        short_code(ANNA, BEN, ONE, ONE),
    ]
    assert code not in others
    assert is_commitment(made, ANNA, BEN, ONE)
    for parts in ((EVE, BEN, ONE), (ANNA, EVE, ONE), (ANNA, BEN, TWO), (BEN, ANNA, ONE)):
        assert not is_commitment(made, *parts)
    assert not is_commitment("é", ANNA, BEN, ONE)


def test_codes_are_spread_over_all_there_are():
    codes = {short_code(ANNA, BEN, ONE, number.to_bytes(32)) for number in range(20_000)}
    assert len(codes) > 19_700  # of a million: 200 pairs are alike by chance
    assert min(codes) < "001-000" < "999-000" < max(codes)


@pytest.mark.parametrize("text", ["", "12345", "1234567", "12a456", "１２３４５６", "yes"])
def test_what_is_no_code_is_the_users_error(text):
    with pytest.raises(UserError, match="six digits"):
        read_code(text)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_number_of_another_length_is_refused(size):
    with pytest.raises(UserError, match="32 bytes"):
        commitment(ANNA, BEN, b"x" * size)
