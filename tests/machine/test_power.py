"""What the system tells of its battery is a state and a share, or that there is none."""

from manyhands.machine.power import power
from manyhands.machine.surroundings import surroundings


def test_power_is_told_or_taken_to_be_mains():
    found = power()
    assert found.charge is None or 0.0 <= found.charge <= 1.0
    assert found.charge is not None or not found.is_on_battery


def test_surroundings_are_read_without_asking_for_input():
    seen = surroundings(None)
    assert seen.idle_s is None
    assert 0 <= seen.minute < 24 * 60
    assert seen.is_on_battery == power().is_on_battery
