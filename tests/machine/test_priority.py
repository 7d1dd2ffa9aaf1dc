"""Threads that compute yield, those beside them do not; a terminal gets its share back."""

import os
import sys
import threading

import pytest

from manyhands.machine.priority import lower, lowered_group


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the whole process")
def test_a_lowered_thread_and_what_it_starts_run_last_and_no_other_thread_does():
    found = []

    def started() -> None:
        found.append(os.sched_getscheduler(0))

    def computing() -> None:
        lower()
        lower()  # twice does no harm
        started()
        helper = threading.Thread(target=started)
        helper.start()
        helper.join()

    before = os.sched_getscheduler(0)
    thread = threading.Thread(target=computing)
    thread.start()
    thread.join()
    assert found == [os.SCHED_IDLE, os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == before


def test_a_terminal_yields_meanwhile_where_sessions_share_the_processor(tmp_path):
    group, matters = tmp_path / "autogroup", tmp_path / "enabled"
    group.write_text("/autogroup-12 nice 3\n")
    matters.write_text("1\n")
    with lowered_group(group, matters):
        assert group.read_text() == "19"
    assert group.read_text() == "3"


@pytest.mark.parametrize("enabled", ["0\n", None])
def test_and_is_left_alone_where_they_do_not(tmp_path, enabled):
    group, matters = tmp_path / "autogroup", tmp_path / "enabled"
    group.write_text("/autogroup-12 nice 3\n")
    if enabled is not None:
        matters.write_text(enabled)
    with lowered_group(group, matters):
        assert group.read_text() == "/autogroup-12 nice 3\n"
