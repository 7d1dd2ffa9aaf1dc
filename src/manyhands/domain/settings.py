"""Every knob, in one frozen object: each with its unit in the name, its range and its meaning.

Knows nothing of files or the environment: whoever reads those hands a mapping to `settings_from`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from manyhands.errors import BadSetting


def _knob(default: Any, low: float, high: float, meaning: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """Raises BadSetting when a value is outside its range."""

    beat_every_s: float = _knob(0.25, 0.01, 60, "a stage with a live session beats this often")
    silent_after_s: float = _knob(0.75, 0.05, 600, "the least silence that counts as a loss")
    silent_factor: float = _knob(4.0, 1, 100, "a silence this many usual times long is a loss")
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
    step_credits: int = _knob(64, 1, 65536, "steps a connection may hold before they are computed")
    record_every_s: float = _knob(5.0, 0.1, 3600, "a peer announces itself at least this often")
    record_life_s: float = _knob(30.0, 0.5, 86400, "a record not renewed this long is dropped")
    kv_bytes: int = _knob(2**30, 2**16, 2**50, "key/value memory of all sessions together")
    journal_bytes: int = _knob(2**28, 2**16, 2**50, "journals of all sessions together")
    context_limit: int = _knob(0, 0, 2**31, "tokens a session may hold; 0 is what the model allows")

    def __post_init__(self) -> None:
        for knob in fields(self):
            value, low, high = (
                getattr(self, knob.name),
                knob.metadata["low"],
                knob.metadata["high"],
            )
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise BadSetting(f"setting {knob.name} is {value!r}; it must be a number")
            if not low <= value <= high:
                raise BadSetting(f"setting {knob.name} is {value}; it must be in [{low}, {high}]")


def settings_from(values: Mapping[str, Any]) -> Settings:
    """`values` over the defaults; an unknown name is a BadSetting that lists near ones."""
    known = {knob.name: knob for knob in fields(Settings)}
    for name in values:
        if name not in known:
            near = [k for k in known if name[:4] == k[:4]] or list(known)
            raise BadSetting(
                f"there is no setting {name!r}; did you mean one of {', '.join(near)}?"
            )
    return Settings(**values)
