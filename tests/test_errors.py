"""The tree of errors: codes that cross the wire, exits that leave the process."""

import inspect

import pytest

from manyhands import errors
from manyhands.errors import ManyhandsError, ResourceError, from_code

EVERY = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, ManyhandsError)
]


def test_every_error_has_a_code_of_its_own():
    assert len({error.code for error in EVERY}) == len(EVERY)
    assert all("code" in vars(error) for error in EVERY)


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_an_error_crosses_the_wire_as_itself(error):
    rebuilt = from_code(error.code, "what, with which, what to try")
    assert type(rebuilt) is error
    assert str(rebuilt) == "what, with which, what to try"


def test_an_unknown_code_becomes_a_plain_error():
    assert type(from_code("from the future", "words")) is ManyhandsError


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_every_error_says_its_one_job_and_how_the_process_ends(error):
    assert error.__doc__
    assert error.exit_code in {1, 2, 3, 4}


def test_the_tree_drawn_in_the_docstring_is_the_tree():
    for error in EVERY:
        assert error.__name__ in errors.__doc__


def test_a_class_that_only_refines_one_crosses_the_wire_as_that():
    class Crash(ResourceError):
        """Of one module only."""

    assert type(from_code(Crash.code, "what, with which, what to try")) is ResourceError
