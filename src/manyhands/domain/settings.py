"""Every knob, in one frozen object: each with its unit in the name, its range and its meaning.

Knows nothing of files or the environment: whoever reads those hands a mapping to `settings_from`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

from manyhands.errors import BadSetting


def _knob(default: Any, low: float, high: float, meaning: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """Raises BadSetting when a value is of another type or outside its range."""

    beat_every_s: float = _knob(0.25, 0.01, 60, "a stage with a live session beats this often")
    silent_after_s: float = _knob(0.75, 0.05, 600, "the least silence that counts as a loss")
    silent_factor: float = _knob(4.0, 1, 100, "a silence this many usual times long is a loss")
    confirm_within_s: float = _knob(0.01, 0.0, 1, "what came is confirmed this soon, or sooner")
    stuck_after_s: float = _knob(30.0, 0.1, 3600, "the least age of a running step that is a loss")
    lease_s: float = _knob(30.0, 0.1, 86400, "a session whose owner is gone this long is freed")
    load_deadline_s: float = _knob(
        120.0, 0.1, 86400, "every stage must be ready, loaded if need be, by then"
    )
    recovery_deadline_s: float = _knob(60.0, 0.1, 86400, "a session must go on again by then")
    stand_in_wait_s: float = _knob(10.0, 0.0, 3600, "a lost span waits this long for a stand-in")
    forgive_after_s: float = _knob(5.0, 0.1, 3600, "a suspected peer or link may be tried again")
    recovery_attempts: int = _knob(16, 1, 1000, "new epochs without a new token before giving up")
    dial_deadline_s: float = _knob(5.0, 0.05, 600, "a connection must be open by then")
    slowest_link_bytes_per_s: float = _knob(125e3, 1e3, 1e12, "slower links count as silent")
    chunk_tokens: int = _knob(128, 1, 65536, "tokens in one step of a prompt or replay")
    window_chunks: int = _knob(4, 1, 1024, "chunks of one session in flight")
    chunk_delay_s: float = _knob(
        0.05, 0.0, 60, "a chunk of a prompt holds up others by no more, where halving it helps"
    )
    admission_wait_s: float = _knob(
        10.0, 0.0, 3600, "a session waits this long for memory of others to come free"
    )
    keep_s: float = _knob(
        300.0, 0.0, 86400, "an ended session is kept so long, for others that begin as it did"
    )
    step_credits: int = _knob(64, 1, 65536, "steps a connection may hold before they are computed")
    record_every_s: float = _knob(5.0, 0.1, 3600, "a peer announces itself at least this often")
    record_life_s: float = _knob(30.0, 0.5, 86400, "a record not renewed this long is dropped")
    survey_every_s: float = _knob(
        300.0, 0.0, 86400, "a link is measured anew this often; 0 is never"
    )
    move_gain: float = _knob(
        0.1, 0.01, 1, "layers move between peers when a step then takes less by this share"
    )
    settle_s: float = _knob(60.0, 0.0, 86400, "after layers moved, none move again for so long")
    drain_s: float = _knob(
        120.0, 1, 86400, "layers that sessions do not leave within this time are not let go of"
    )
    invite_life_s: float = _knob(86400.0, 1, 31536000, "an invite lets somebody in this long")
    approval_wait_s: float = _knob(
        120.0, 0.1, 86400, "a device that asks to be let in waits this long for a person's word"
    )
    certificate_life_s: float = _knob(
        2592000.0, 4, 31536000, "a membership lasts this long unless it is renewed"
    )
    kv_bytes: int = _knob(2**30, 2**16, 2**50, "key/value memory of all sessions together")
    journal_bytes: int = _knob(2**28, 2**16, 2**50, "journals of all sessions together")
    fetch_wait_s: float = _knob(
        60.0, 0.1, 86400, "weights that nobody gives are waited for so long after the last piece"
    )
    fetched_bytes: int = _knob(0, 0, 2**60, "disk for all fetched models; 0 is what is free")
    context_limit: int = _knob(0, 0, 2**31, "tokens a session may hold; 0 is what the model allows")

    def __post_init__(self) -> None:
        for knob in fields(self):
            object.__setattr__(self, knob.name, _checked(knob, getattr(self, knob.name)))


def _checked(knob: Field[Any], value: object) -> int | float:
    """`value` as the plain number that the knob holds, whole where its default is."""
    low, high = knob.metadata["low"], knob.metadata["high"]
    number: int | float | None = None
    if isinstance(knob.default, int):
        kind = "a whole number"
        if not isinstance(value, bool) and isinstance(value, Integral):
            number = int(value)
    else:
        kind = "a number"
        if not isinstance(value, bool) and isinstance(value, Real):
            number = float(value) if abs(value) <= high else math.inf
    if number is None or not low <= number <= high:
        raise BadSetting(
            f"setting {knob.name} is {value!r:.200}; it must be {kind} in [{low}, {high}] "
            f"({knob.metadata['meaning']})"
        )
    return number


def settings_from(values: Mapping[str, Any]) -> Settings:
    """`values` over the defaults.

    Raises BadSetting for what is no mapping, for an unknown name (near ones are told) and for a
    value of another type or outside its range.
    """
    if not isinstance(values, Mapping):
        raise BadSetting(f"settings are {values!r:.200}; they must map names to numbers")
    known = [knob.name for knob in fields(Settings)]
    for name in values:
        if name not in known:
            near = get_close_matches(str(name), known) or known
            raise BadSetting(
                f"there is no setting {name!r}; did you mean one of {', '.join(near)}?"
            )
    return Settings(**values)
