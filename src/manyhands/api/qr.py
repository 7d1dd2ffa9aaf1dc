"""A text as a QR code: the picture's side and the path of its dark squares, for an SVG.

Knows nothing of what the text means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import segno

BORDER = 4
"""Light squares around it, as the standard wants."""


def qr_code(text: str) -> segno.QRCode:
    """The code of a text whose capitals and small letters are the same: capitals take less room."""
    import segno

    return segno.make(text.upper(), error="m", micro=False)


def qr_path(text: str) -> dict[str, Any]:
    """`side` in squares, border included, and `path`: what an SVG's `d` says of the dark ones."""
    code = qr_code(text)
    rows = [bytes(row) for row in code.matrix_iter(border=BORDER)]
    return {"side": len(rows), "path": "".join(_runs(rows))}


def _runs(rows: list[bytes]) -> list[str]:
    """A rectangle for each run of dark squares in a row."""
    found = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            end = x
            while end < len(row) and row[end]:
                end += 1
            if end > x:
                found.append(f"M{x} {y}h{end - x}v1h-{end - x}z")
            x = end + 1
    return found
