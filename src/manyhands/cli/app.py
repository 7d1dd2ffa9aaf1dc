"""The command `hands`: its verbs and their options, nothing else.

Each verb's own file is imported when it is called, so that `hands --help` answers at once.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhands.cli.options import (
    AllowHost,
    AllowOrigin,
    ApiKey,
    AsJson,
    DoorPort,
    Dtype,
    Engine,
    Host,
    Hours,
    HttpHost,
    HttpPort,
    IdleAfter,
    IdleFrom,
    Invite,
    Lan,
    LowPriority,
    MaxCpu,
    MaxMemory,
    MaxUpload,
    Model,
    Models,
    OnMains,
    Peers,
    PeersPort,
    PublicHost,
    PublicPort,
    Spans,
    Threads,
    Url,
    Verbose,
    Version,
    Watch,
    When,
)

if TYPE_CHECKING:
    from manyhands.cli.http import Api

app = typer.Typer(
    name="hands",
    help="Run large models on the devices you already own, together.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """What the command `hands` runs."""
    # what comes once all is done must not turn the exit code into a signal's
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    app()


@app.callback()
def hands(_version: Version = False) -> None:
    """Run large models on the devices you already own, together."""


@app.command()
def demo(
    model: Annotated[str, typer.Argument(help="A model's folder.")] = "storyteller",
    prompt: Annotated[str, typer.Option(help="How the text begins.")] = "Once upon a time",
    peers: Annotated[int, typer.Option(help="How many processes share the model.")] = 3,
    kill: Annotated[int, typer.Option(help="Which of them is killed.")] = 2,
    at: Annotated[int, typer.Option(help="After how many tokens.")] = 130,
    max_tokens: Annotated[int, typer.Option(help="The longest text.")] = 400,
    seed: Annotated[int, typer.Option(help="Another seed, another story.")] = 6,
    temperature: Annotated[float, typer.Option(help="0 is always the likeliest word.")] = 0.7,
    machine: Annotated[bool, typer.Option(help="Tell what this machine could run.")] = True,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Three processes tell a story; one is killed, and it goes on."""
    from manyhands.cli import demo as verb
    from manyhands.cli.console import Console
    from manyhands.domain.settings import Settings

    options = verb.DemoOptions(
        model, prompt, peers, kill, at, max_tokens, seed, temperature, machine
    )
    _run(verb.demo(Console(as_json=as_json), options, Settings()), as_json, verbose)


@app.command("serve", help="Run a model and serve it by HTTP, until Ctrl-C.")
@app.command("run", help="Run a model, serve it by HTTP, and talk to it here.")
def run_or_serve(
    context: typer.Context,
    models: Models = None,
    peers: Peers = 0,
    span: Spans = None,
    max_memory: MaxMemory = None,
    engine: Engine = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    lan: Lan = True,
    host: Host = None,
    public_host: PublicHost = None,
    public_port: PublicPort = None,
    peers_port: PeersPort = None,
    door_port: DoorPort = None,
    http_host: HttpHost = "127.0.0.1",
    http_port: HttpPort = None,
    api_key: ApiKey = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Both verbs take the same; one of them talks here as well."""
    from manyhands.cli.console import Console, run_plain
    from manyhands.cli.serve import ServeOptions, serve_until_signal
    from manyhands.domain.settings import Settings

    options = ServeOptions(
        tuple(models or ("storyteller",)), peers, tuple(span or ()), max_memory, engine, dtype,
        threads, lan, host, public_host, public_port, peers_port, door_port, http_host, http_port,
        api_key, tuple(allow_host or ()), tuple(allow_origin or ()),
    )  # fmt: skip
    console = Console(as_json=as_json)
    if context.command.name == "serve":
        _run(serve_until_signal(console, options, Settings()), as_json, verbose)
        return
    from manyhands.cli import run as verb

    run_plain(lambda: verb.run(console, options, Settings()), as_json=as_json, verbose=verbose)


@app.command()
def join(
    address: Annotated[
        str | None,
        typer.Argument(help="HOST[:PORT] of the swarm's door, or a link; else one is looked for."),
    ] = None,
    invite: Invite = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The swarm's model on this disk; else the others give it."),
    ] = None,
    span: Annotated[
        str | None, typer.Option("--span", help="Layers FIRST:LAST, which never move.")
    ] = None,
    max_memory: MaxMemory = None,
    disk: Annotated[
        str | None, typer.Option("--disk", help="What models from others may take, as 20G.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Listen at this address of this machine.")
    ] = None,
    public_host: PublicHost = None,
    port: Annotated[int, typer.Option("--port", help="Listen at this port; 0 is any.")] = 0,
    public_port: PublicPort = None,
    threads: Threads = None,
    when: When = "always",
    idle_after: IdleAfter = "60s",
    idle_from: IdleFrom = None,
    on_mains: OnMains = False,
    hours: Hours = None,
    max_cpu: MaxCpu = "100%",
    max_upload: MaxUpload = None,
    low_priority: LowPriority = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="End when standard input does.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Give this device to a swarm, until Ctrl-C."""
    from manyhands.cli import join as verb
    from manyhands.cli.console import Console
    from manyhands.cli.limits import LimitOptions
    from manyhands.domain.settings import Settings

    limits = LimitOptions(
        when, idle_after, idle_from, on_mains, hours, max_cpu, max_upload, low_priority
    )
    options = verb.JoinOptions(
        address, invite, model, span, max_memory, disk, host, public_host, port, public_port,
        threads, with_parent, limits,
    )  # fmt: skip
    _run(verb.join(Console(as_json=as_json), options, Settings()), as_json, verbose)


@app.command()
def chat(
    model: Annotated[str | None, typer.Argument(help="Of several that are served, which.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Talk to a model that `hands serve` or `hands run` serves."""
    from manyhands.cli import chat as verb
    from manyhands.cli.console import Console, run_plain

    run_plain(
        lambda: verb.talk(verb.open_chat(_api(url, api_key), model), Console(as_json=as_json)),
        as_json=as_json,
        verbose=verbose,
    )


@app.command()
def status(
    watch: Watch = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Who holds what of the swarm that runs here, and what is missing."""
    from manyhands.cli import status as verb
    from manyhands.cli import watch as watching
    from manyhands.cli.console import Console, run_plain

    def work() -> None:
        if watch:
            watching.watch(Console(as_json=as_json), lambda: _api(url, api_key))
        else:
            verb.status(Console(as_json=as_json), _api(url, api_key))

    run_plain(work, as_json=as_json, verbose=verbose)


@app.command()
def plan(
    models: Annotated[
        list[str], typer.Argument(help="Folders, or known models as `llama-70b`; several together.")
    ],
    form: Annotated[str, typer.Option("--format", help="auto, fp32, bf16, int8, int4.")] = "auto",
    context: Annotated[int, typer.Option(help="Tokens that memory is planned for.")] = 4096,
    more: Annotated[
        int | None,
        typer.Option(help="So many more like this machine; without --url it and they alone."),
    ] = None,
    span: Spans = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """What would happen with a model, or several at once, before anything is loaded."""
    from manyhands.cli import plan as verb
    from manyhands.cli.console import Console, run_plain
    from manyhands.cli.notes import running
    from manyhands.store.home import Home

    def work() -> None:
        asks = url is not None or (more is None and bool(running(Home.standard())))
        api = _api(url, api_key) if asks else None
        options = verb.PlanOptions(tuple(models), form, context, more or 0, tuple(span or ()))
        verb.plan(Console(as_json=as_json), options, api)

    run_plain(work, as_json=as_json, verbose=verbose)


@app.command()
def approve(
    code: Annotated[
        str | None, typer.Argument(help="What the device shows; without it, who waits.")
    ] = None,
    deny: Annotated[bool, typer.Option("--deny", help="Refuse it.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Let a device into the swarm that runs here: it shows the same code."""
    from manyhands.cli import approve as verb
    from manyhands.cli.console import Console, run_plain

    def work() -> None:
        verb.approve(Console(as_json=as_json), _api(), code, is_welcome=not deny)

    run_plain(work, as_json=as_json, verbose=verbose)


@app.command()
def invite(
    life: Annotated[
        str | None, typer.Option("--for", help="How long it is good: 30m, 2h, 7d; usually a day.")
    ] = None,
    guest: Annotated[
        str | None, typer.Option("--guest", help="Let in for so long only, as 3h.")
    ] = None,
    qr: Annotated[bool, typer.Option(help="Draw it to be photographed.")] = True,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Another invite to the swarm that runs here, for one device."""
    from manyhands.cli import invite as verb
    from manyhands.cli.console import Console, run_plain

    def work() -> None:
        verb.invite(Console(as_json=as_json), _api(), verb.InviteOptions(life, guest, qr))

    run_plain(work, as_json=as_json, verbose=verbose)


@app.command()
def page(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Open the page of what runs here as whoever runs it: to let in, invite and plan."""
    from manyhands.cli import page as verb
    from manyhands.cli.console import Console, run_plain

    run_plain(lambda: verb.page(Console(as_json=as_json), _api()), as_json=as_json, verbose=verbose)


@app.command()
def doctor(
    address: Annotated[
        str | None, typer.Argument(help="HOST or HOST:PORT of a door to look at as well.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """What keeps this machine from a swarm, and what mends it."""
    from manyhands.cli import doctor as verb
    from manyhands.cli.console import Console
    from manyhands.store.home import Home

    console = Console(as_json=as_json)
    _run(verb.doctor(console, Home.standard(), address), as_json, verbose)


@app.command()
def bench(
    model: Model = "storyteller",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="How often it is run.")] = 5,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure this machine, and a model beside its prediction."""
    from manyhands.cli import bench as verb
    from manyhands.cli.console import run_plain

    run_plain(
        lambda: verb.bench(model, rounds=rounds, as_json=as_json), as_json=as_json, verbose=verbose
    )


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="A model's folder, or `storyteller`.")],
    target: Annotated[str, typer.Option("--to", help="The new folder.")],
    form: Annotated[str, typer.Option("--format", help="int8, int4 or bf16.")] = "int8",
    budget: Annotated[
        float | None,
        typer.Option(
            "--low-rank-budget",
            help="Write a matrix as two thin ones where that is smaller and changes its output by "
            "at most this share, as 0.05.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(help="A file of texts such as the model will read, to measure that."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Convert a model's weights into a smaller, quicker form."""
    from manyhands.cli import pull as verb
    from manyhands.cli.console import Console, run_plain

    console = Console(as_json=as_json)
    options = verb.PullOptions(model, form, target, budget, calibration)
    run_plain(lambda: verb.pull(console, options), as_json=as_json, verbose=verbose)


def _api(url: str | None = None, api_key: str | None = None) -> Api:
    from manyhands.cli.http import find_api
    from manyhands.store.home import Home

    return find_api(Home.standard(), url, api_key)


def _run(work: Coroutine[Any, Any, None], as_json: bool, verbose: bool) -> None:
    from manyhands.cli.console import run_verb

    run_verb(work, as_json=as_json, verbose=verbose)


if __name__ == "__main__":
    main()
