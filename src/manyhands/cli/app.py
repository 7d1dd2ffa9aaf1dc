"""The command `hands`: its verbs and their options, nothing else.

Each verb's own file is imported when it is called, so that `hands --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="hands",
    help="Run large models on the devices you already own, together.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell what happens inside.")]
Invite = Annotated[
    str | None,
    typer.Option("--invite", envvar="MANYHANDS_INVITE", help="What `hands run` printed."),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", help="Give this much at most, as in 4G; else what is free."),
]
Threads = Annotated[int | None, typer.Option("--threads", help="Of the torch engine.")]


def main() -> None:
    """What the command `hands` runs."""
    app()


@app.callback()
def hands(
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    """Run large models on the devices you already own, together."""
    if version:
        import manyhands

        typer.echo(f"manyhands {manyhands.__version__}")
        raise typer.Exit


@app.command()
def join(
    address: Annotated[str, typer.Argument(help="HOST or HOST:PORT of the swarm's door.")],
    invite: Invite = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The folder with the swarm's model on this disk.")
    ] = None,
    span: Annotated[
        str | None, typer.Option("--span", help="Layers FIRST:LAST; else what is needed most.")
    ] = None,
    memory: Memory = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Listen at this address of this machine.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Listen at this port; 0 is any.")] = 0,
    threads: Threads = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="End when standard input does.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Give this device to a swarm, until Ctrl-C."""
    from manyhands.cli import join as verb
    from manyhands.cli.console import Console
    from manyhands.domain.settings import Settings

    options = verb.JoinOptions(
        address, invite, model, span, memory, host, port, threads, with_parent
    )
    _run(verb.join(Console(as_json=as_json), options, Settings()), as_json, verbose)


@app.command()
def demo(
    model: Annotated[str, typer.Argument(help="A model's folder.")] = "storyteller",
    prompt: Annotated[str, typer.Option(help="How the text begins.")] = "Once upon a time",
    peers: Annotated[int, typer.Option(help="How many processes share the model.")] = 3,
    kill: Annotated[int, typer.Option(help="Which of them is killed.")] = 2,
    at: Annotated[int, typer.Option(help="After how many tokens.")] = 80,
    max_tokens: Annotated[int, typer.Option(help="The longest text.")] = 300,
    seed: Annotated[int, typer.Option(help="Another seed, another story.")] = 3,
    temperature: Annotated[float, typer.Option(help="0 is always the likeliest word.")] = 0.7,
    machine: Annotated[bool, typer.Option(help="Tell what this machine could run.")] = True,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Three processes share a model; one is killed in mid-story, and the story goes on."""
    from manyhands.cli import demo as verb
    from manyhands.cli.console import Console
    from manyhands.domain.settings import Settings

    options = verb.DemoOptions(
        model, prompt, peers, kill, at, max_tokens, seed, temperature, machine
    )
    _run(verb.demo(Console(as_json=as_json), options, Settings()), as_json, verbose)


def _run(work: Coroutine[Any, Any, None], as_json: bool, verbose: bool) -> None:
    from manyhands.cli.console import run_verb

    run_verb(work, as_json=as_json, verbose=verbose)


if __name__ == "__main__":
    main()
