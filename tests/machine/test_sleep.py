"""What logind announces is heard, everything else is not; without it there is silence, no error."""

import sys

from manyhands.machine.sleep import announced

SAID = """Monitoring signals on object /org/freedesktop/login1 owned by org.freedesktop.login1
/org/freedesktop/login1: org.freedesktop.login1.Manager.SessionNew ('3', objectpath '/org')
/org/freedesktop/login1: org.freedesktop.login1.Manager.PrepareForSleep (true,)
/org/freedesktop/login1: org.freedesktop.login1.Manager.PrepareForSleep (false,)
"""


async def test_a_sleep_and_its_end_are_heard():
    words = (sys.executable, "-c", f"print({SAID!r}, end='')")
    assert [told async for told in announced(words)] == [True, False]


async def test_where_nobody_tells_nothing_is_heard():
    assert [told async for told in announced(("no such program",))] == []
    assert [told async for told in announced((sys.executable, "-c", ""))] == []


async def test_who_listens_no_more_leaves_no_process_behind():
    words = (sys.executable, "-c", f"import time; print({SAID!r}, flush=True); time.sleep(60)")
    listening = announced(words)
    assert await anext(listening) is True
    await listening.aclose()
