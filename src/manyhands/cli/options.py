"""The options that verbs of `hands` take, each with its help; nothing of what they do."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell what happens inside.")]
Invite = Annotated[
    str | None,
    typer.Option("--invite", envvar="MANYHANDS_INVITE", help="What `hands run` printed."),
]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", help="Give at most this: 4GB, 4GiB or 4G; else what is free."),
]
PublicHost = Annotated[
    str | None,
    typer.Option("--public-host", help="By which name or address others reach --host."),
]
PublicPort = Annotated[
    int | None, typer.Option("--public-port", help="By which port others reach the one for peers.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="How many threads compute (torch engine).")
]
Models = Annotated[
    list[str] | None,
    typer.Argument(help="A model's folder, or `storyteller`; several are served together."),
]
Model = Annotated[str, typer.Argument(help="A model's folder, or `storyteller`.")]
Peers = Annotated[
    int, typer.Option("--peers", help="Share it over so many processes here; 0: this one holds it.")
]
Spans = Annotated[
    list[str] | None,
    typer.Option("--span", help="Layers FIRST:LAST here, NAME=FIRST:LAST there; they never move."),
]
Engine = Annotated[str, typer.Option("--engine", help="auto, numpy or torch.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, fp32, bf16 or fp16 (torch).")]
Lan = Annotated[
    bool,
    typer.Option(
        "--lan/--no-lan",
        envvar="MANYHANDS_LAN",
        help="Let other devices of this network ask to join.",
    ),
]
Host = Annotated[str | None, typer.Option("--host", help="Where peers reach this one; see --lan.")]
PeersPort = Annotated[int | None, typer.Option("--peers-port", help="For peers; usually 7701.")]
DoorPort = Annotated[int | None, typer.Option("--door-port", help="For newcomers; usually 7702.")]
HttpHost = Annotated[str, typer.Option("--http-host", help="Where HTTP listens; needs --api-key.")]
HttpPort = Annotated[int | None, typer.Option("--http-port", help="For HTTP; usually 7700.")]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="MANYHANDS_API_KEY", help="Who asks by HTTP must show it."),
]
AllowHost = Annotated[
    list[str] | None, typer.Option("--allow-host", help="Another name HTTP is reached by.")
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option("--allow-origin", help="Another site whose pages may ask, as https://site.org."),
]
Url = Annotated[str | None, typer.Option("--url", help="http://HOST:PORT; else what runs here.")]
Watch = Annotated[bool, typer.Option("--watch", help="Go on showing it, until Ctrl-C.")]
When = Annotated[
    str, typer.Option("--when", help="always, or idle: only while nobody uses this machine.")
]
IdleAfter = Annotated[
    str, typer.Option("--idle-after", help="Nobody uses it after so long without input, as 60s.")
]
IdleFrom = Annotated[
    str | None,
    typer.Option(
        "--idle-from",
        envvar="MANYHANDS_IDLE_FROM",
        help="file:PATH touched at each input, or command:WORDS that prints milliseconds since.",
    ),
]
OnMains = Annotated[bool, typer.Option("--on-mains", help="Not while it runs on its battery.")]
Hours = Annotated[
    str | None, typer.Option("--hours", help="Only then, as 22-07 or 22:30-06:15, local time.")
]
MaxCpu = Annotated[str, typer.Option("--max-cpu", help="Of all cores together, as 50%.")]
MaxUpload = Annotated[
    str | None, typer.Option("--max-upload", help="Send at most so much a second, as 5M.")
]
LowPriority = Annotated[
    bool | None,
    typer.Option(
        "--low-priority/--full-priority",
        help="Compute only where nothing else wants the processor; that is usual.",
    ),
]


def _tell_version(wanted: bool) -> None:
    if wanted:
        import manyhands

        typer.echo(f"manyhands {manyhands.__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_tell_version, is_eager=True, help="Say which version this is."
    ),
]
