"""One typed line is one answer: what follows is for the next question, and no input is an error."""

import subprocess
import sys

ASK = """
import asyncio
from manyhands.cli.typed import typed_line
from manyhands.errors import UserError

async def main():
    try:
        print("heard", await typed_line())
    except UserError as error:
        print("told", error)

asyncio.run(main())
"""


def answered(typed: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", ASK], input=typed, capture_output=True, text=True, timeout=30,
        check=True,
    )  # fmt: skip
    return ran.stdout.strip()


def test_a_line_is_heard_without_what_surrounds_it():
    assert answered(" 2 \n") == "heard 2"
    assert answered("\n") == "heard"


def test_where_input_ends_nobody_waits():
    assert answered("").startswith("told input has ended")
