"""`hands doctor`: a line a check, and under each that is not well the one thing that mends it."""

from __future__ import annotations

from manyhands.cli.console import Console
from manyhands.cli.notes import running
from manyhands.launch.checkup import examine
from manyhands.store.home import Home

NOT_WELL = 1
"""The exit code when something is to be mended."""


async def doctor(console: Console, home: Home, address: str | None) -> None:
    """Print all findings. Raises SystemExit when one is not well, UserError for no address."""
    broken = 0
    async for finding in examine(home, address, bool(running(home))):
        mark = "ok    " if finding.is_ok else "not ok"
        console.say(f"{mark}  {finding.name}: {finding.said}", None if finding.is_ok else "yellow")
        if not finding.is_ok:
            broken += 1
            console.say(f"        mend: {finding.mend}")
        console.event(
            "check", name=finding.name, ok=finding.is_ok, said=finding.said, mend=finding.mend
        )
    console.event("examined", not_ok=broken)
    if broken:
        raise SystemExit(NOT_WELL)
    console.say("all is well", "green")
