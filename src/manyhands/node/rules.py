"""The session rules that close a hole each, as switches: off, a test must notice.

The numbers are those of docs/decisions/0003-session-protocol.md. Only tests switch any off.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """Rule 1: order of steps. 2: epochs. 3: journal. 4: liveness. 5: credits. 6: connections.

    Rule 7 (kernel sets) is said by the profile itself.
    """

    drop_old_sequences: bool = True
    drop_old_branches: bool = True
    refuse_gaps: bool = True
    cut_by_position: bool = True
    drop_old_epochs: bool = True
    wait_until_ready: bool = True
    judge_history: bool = True
    cut_journal: bool = True
    watch_confirmations: bool = True
    watch_beats: bool = True
    end_leases: bool = True
    limit_window: bool = True
    new_epoch_on_reconnect: bool = True


ALL_RULES = Rules()
