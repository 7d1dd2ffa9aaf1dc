"""Terminals and interrupts tell of the last input; without either nothing does."""

import os
import time
from datetime import UTC, datetime

from manyhands.machine.local_input import LocalInput, input_counts

BOTH = """           CPU0       CPU1
  1:        100         20   IO-APIC   1-edge      i8042
 12:          5          0   IO-APIC  12-edge      i8042
 16:       9000          0   PCI-MSI  65536-edge   nvme0q1
 42:          7          1   PCI-MSI  327680-edge  xhci_hcd
LOC:    8236577    8613683   Local timer interrupts
ERR:          0
"""


def test_the_lines_of_keyboards_and_mice_are_counted_and_no_others():
    assert input_counts(BOTH) == {"1": 120, "12": 5, "42": 8}
    assert input_counts("") == {}


def test_an_interrupt_is_an_input_and_time_without_one_is_idle(tmp_path):
    table = tmp_path / "interrupts"
    table.write_text(BOTH)
    here = LocalInput(tmp_path, table)
    first_s = here.idle_s()
    assert first_s < 1.0
    time.sleep(0.05)
    assert here.idle_s() >= first_s + 0.05
    table.write_text(BOTH.replace("5          0   IO", "6          0   IO"))
    assert here.idle_s() < 0.05


def test_the_terminal_that_was_used_last_counts(tmp_path):
    (tmp_path / "interrupts").write_text("           CPU0\n")
    (tmp_path / "pts").mkdir()
    now_s = datetime.now(UTC).timestamp()
    for name, used_s in {"pts/0": 500, "pts/1": 90, "tty1": 7000, "ttyS0": 1}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now_s - used_s, now_s))
    assert 89 < LocalInput(tmp_path, tmp_path / "interrupts").idle_s() < 100


def test_where_there_is_neither_nothing_is_claimed(tmp_path):
    (tmp_path / "interrupts").write_text("           CPU0\n")
    assert LocalInput(tmp_path, tmp_path / "interrupts").idle_s() is None
    (tmp_path / "tty1").touch()
    assert LocalInput(tmp_path, tmp_path / "no such file").idle_s() is None
