"""Makes the README's picture: runs `hands demo` in a real terminal and draws what it showed.

    python tools/picture.py [FILE]        by default docs/demo.svg

Nothing is edited: the text is what the command wrote, colours included.
"""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px; line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})"
       clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""
"""Rich's own drawing, without the fonts it would fetch from elsewhere."""


def shown(words: list[str]) -> str:
    """Everything a command writes to a terminal of COLUMNS columns. Raises when it fails."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)  # noqa: S603 (our own command)
    os.close(theirs)
    written = io.BytesIO()
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not data:
            break
        written.write(data)
    os.close(ours)
    if process.wait() != 0:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return written.getvalue().decode("utf-8", "replace").replace("\r\n", "\n")


def picture(command: str, text: str) -> str:
    """The terminal's contents as SVG."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(text.rstrip("\n")))
    return console.export_svg(title=command, code_format=FORMAT)


def main() -> None:
    """Run the demo, write the picture."""
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/demo.svg")
    text = shown([sys.executable, "-m", "manyhands.cli.app", "demo"])
    lines = picture("hands demo", text).splitlines()
    file.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
    print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
