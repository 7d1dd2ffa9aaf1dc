"""`hands serve`: run a model here and let people ask it by HTTP, until Ctrl-C.

`hands run` is the same with a chat in the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import manyhands
from manyhands.api.guard import check_access
from manyhands.api.listening import bound_http, serving_http
from manyhands.api.serving import Control, Serving
from manyhands.cli.at_door import AtDoor
from manyhands.cli.console import Console, until_signal
from manyhands.cli.following import follow
from manyhands.cli.gauging import gauge
from manyhands.cli.loading import shown_loading
from manyhands.cli.notes import announced
from manyhands.cli.preview import Preview
from manyhands.cli.spans import read_spans
from manyhands.cli.words import (
    as_size,
    check_fits,
    check_host,
    check_public_port,
    cost_of,
    device_here,
    engine_for,
    planned_tokens,
)
from manyhands.domain.device import Device
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span, even_cuts
from manyhands.errors import ResourceError, UserError
from manyhands.launch.founding import Founding, Ports, found_swarm
from manyhands.launch.leftovers import private_folder, sweep
from manyhands.launch.link import write_link
from manyhands.launch.local import LocalPeers
from manyhands.launch.ports import API_PORT, DOOR_PORT, PEERS_PORT, port_for
from manyhands.net.hosts import is_loopback
from manyhands.net.interfaces import reachable_addresses
from manyhands.node.live import is_covered, until_covered, wall_clock
from manyhands.node.opened import Opened, open_model
from manyhands.node.speaker import Speaker
from manyhands.plan.cost import memory_bytes
from manyhands.plan.share import gaps, held_layers, most_from
from manyhands.plan.taken import left_of
from manyhands.store.builtin import folder_of
from manyhands.store.home import Home
from manyhands.store.hub import Hub, is_of_hub
from manyhands.trust.invite import Invite

RENEW_BEFORE_S = 3600.0
"""So long before an invite ends the next one is printed; at half its life where that is later."""


EVERYWHERE = "0.0.0.0"  # noqa: S104 (peers and door: who is no member gets nowhere)

SETTLE_S = 2.0
"""A loss that a stand-in mends meanwhile is not worth a word: answers go on."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What was typed; see `hands serve --help`."""

    models: tuple[str, ...]
    peers: int = 0
    spans: tuple[str, ...] = ()
    memory: str | None = None
    engine: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    lan: bool = True
    host: str | None = None
    public_host: str | None = None
    public_port: int | None = None
    peers_port: int | None = None
    door_port: int | None = None
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    api_key: str | None = None
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()


async def serve(
    console: Console,
    options: ServeOptions,
    settings: Settings,
    asked: asyncio.Event,
    ready: Callable[[str], None] = lambda _: None,
    control: str | None = None,
) -> None:
    """Run until `asked`; `ready` is called with the URL once answers can be had.

    Who shows `control` may tell the swarm things by HTTP; without one, lines typed here do too.

    Raises what the model folder, the ports and the memory fail by, before anything is loaded.
    """
    check_access(options.http_host, options.api_key, options.allow_origins)
    ports = _ports(options)
    opened = await _opened(console, options, settings)
    here = device_here(options.memory)
    shares = _shares(options, opened, here, settings)
    sweep()

    async def work() -> None:
        holds = not options.peers
        async with (
            found_swarm(home, opened[0], here, settings, ports, holds=holds) as swarm,
            _children(options, swarm, opened[0]),
        ):
            for another in opened[1:]:
                await swarm.add(another)
            if not is_loopback(ports.host) and holds:  # others may join and count with it
                engine, dtype, *_ = opened[0].model.profile.kernels.split("-")
                await gauge(console, swarm.node, engine, dtype, options.threads)
            for one, share in zip(opened, shares, strict=True):
                await _hold(console, swarm, one, share, is_in_children=not holds)
                _follow(console, options, swarm, one, share)
            await _answer_http(console, options, home, swarm, listening, ready, control)

    # bound before anything is loaded; whoever connects meanwhile waits
    with await _bound(options) as listening, Home.standard() as home:
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work())
            await asked.wait()
            console.say("ending …", "dim")
            working.cancel()
    console.event("left")


async def _opened(console: Console, options: ServeOptions, settings: Settings) -> list[Opened]:
    """Every model, in the order typed. Raises UserError for two of one name."""
    opened: list[Opened] = []
    for model in options.models:
        folder = await _folder(console, model)
        engine = engine_for(folder, options.engine, options.dtype)
        one = open_model(
            folder, settings, engine=engine, dtype=options.dtype, threads=options.threads
        )
        if any(one.name == other.name for other in opened):
            raise UserError(f"two models are called {one.name}: who asks must tell them apart")
        opened.append(one)
    return opened


async def _folder(console: Console, model: str) -> Path:
    """The model's folder: one here, or the files of the hub's model of this name."""
    if not is_of_hub(model):
        return folder_of(model)
    console.say(f"getting {model} from the hub, but for what is here already …")
    return await asyncio.to_thread(Hub().folder, model)


async def serve_until_signal(console: Console, options: ServeOptions, settings: Settings) -> None:
    """`serve` until Ctrl-C."""
    async with until_signal() as asked:
        await serve(console, options, settings, asked)


def _shares(
    options: ServeOptions, opened: list[Opened], here: Device, settings: Settings
) -> list[Span | None]:
    """What this process holds of each model; of a later one what fits beside those before it."""
    if len(opened) > 1 and (options.peers or options.spans):
        raise UserError("--peers and --span are of one model; serve several without them")
    shares = [_share(options, opened[0], here, settings)]
    for before, one in pairwise(opened):
        held, tokens = shares[-1], planned_tokens(before.model, settings)
        if held is not None:
            cost = cost_of(before.model)
            here = left_of(here, memory_bytes(before.model.spec, held, tokens, cost))
        tokens = planned_tokens(one.model, settings)
        shares.append(most_from(one.model.spec, 0, here, tokens, cost_of(one.model)))
    return shares


def _share(options: ServeOptions, opened: Opened, here: Device, settings: Settings) -> Span | None:
    """What this process holds: all of the model, or as much as fits; None with children."""
    spec = opened.model.spec
    if not 0 <= options.peers <= len(spec.layers):
        raise UserError(
            f"--peers is {options.peers}; the model has {len(spec.layers)} layers, and 0 is no "
            "further process"
        )
    if options.peers:
        check_fits(opened.model, spec.span, here, settings)
        return None
    span = read_spans(options.spans, spec).here
    if span is not None:
        check_fits(opened.model, span, here, settings)
        return span
    tokens = planned_tokens(opened.model, settings)
    most = most_from(spec, 0, here, tokens, cost_of(opened.model))
    if most is None:
        check_fits(opened.model, Span(0, 1), here, settings)
        raise ResourceError("not one layer of the model fits here; free some memory")
    return most


def _ports(options: ServeOptions) -> Ports:
    host, public_host, more_hosts = _hosts(options)
    check_host(host, public_host)
    check_public_port(options.public_port, options.peers_port, "--peers-port")
    return Ports(
        host,
        port_for(host, options.peers_port, PEERS_PORT),
        port_for(host, options.door_port, DOOR_PORT),
        public_host,
        more_hosts,
        options.public_port,
        is_peers_named=options.peers_port is not None,
        is_door_named=options.door_port is not None,
    )


def _hosts(options: ServeOptions) -> tuple[str, str | None, tuple[str, ...]]:
    """Where to listen, by which address others dial, and by which others besides."""
    if options.host is not None or not options.lan:
        return options.host or "127.0.0.1", options.public_host, ()
    hosts = reachable_addresses()
    if not hosts:  # nobody but this machine
        return "127.0.0.1", options.public_host, ()
    if options.public_host:  # neighbours still come by the addresses of this network
        return EVERYWHERE, options.public_host, hosts
    return EVERYWHERE, hosts[0], hosts[1:]


async def _bound(options: ServeOptions) -> socket.socket:
    """Where HTTP listens. Raises UserError when that cannot be had."""
    port = port_for(options.http_host, options.http_port, API_PORT)
    try:
        return await bound_http(options.http_host, port)
    except UserError:
        if options.http_port is not None:
            raise
    # somebody else was quicker at the usual one
    return await bound_http(options.http_host, 0)


@contextlib.asynccontextmanager
async def _children(options: ServeOptions, swarm: Founding, opened: Opened) -> AsyncIterator[None]:
    """As many processes as were asked for, each with an even share."""
    if not options.peers:
        yield
        return
    with private_folder() as folder:
        async with LocalPeers(folder, options.peers) as peers:
            for span in even_cuts(len(opened.model.spec.layers), options.peers):
                await peers.start(swarm.door, swarm.founder.invite(), opened.folder, span)
            for peer in peers.peers:
                await peer.ready(swarm.settings.load_deadline_s)
            await until_covered(swarm.node, opened.model, swarm.settings.load_deadline_s)
            yield


async def _hold(
    console: Console, swarm: Founding, opened: Opened, share: Span | None, *, is_in_children: bool
) -> None:
    name, model = opened.name, opened.model
    profile = model.profile.kernels
    before = swarm.node.holdings.room_bytes()
    if share is not None:
        await shown_loading(console, opened, share, swarm.hold(share, opened))
    held_bytes = before - swarm.node.holdings.room_bytes()
    where = "in processes of their own" if is_in_children else f"{as_size(held_bytes)} here"
    console.say(
        f"manyhands {manyhands.__version__} · {name} · {len(model.spec.layers)} layers · "
        f"{profile} · {where}"
    )


def _follow(
    console: Console, options: ServeOptions, swarm: Founding, opened: Opened, share: Span | None
) -> None:
    """From now on layers go where they are quickest, but for those given by hand."""
    model, node = opened.model, swarm.node
    typed = read_spans(options.spans, model.spec)
    node.replanner.by_hand = typed.others
    is_movable = share is not None and typed.here is None
    follow(console, node, model, node.peer, swarm.settings, is_movable=is_movable)


async def _answer_http(
    console: Console,
    options: ServeOptions,
    home: Home,
    swarm: Founding,
    listening: socket.socket,
    ready: Callable[[str], None],
    control: str | None,
) -> None:
    """Until cancelled."""
    key = control or secrets.token_urlsafe()
    serving = Serving(
        speakers=swarm.speakers,
        node=swarm.node,
        wall_clock=wall_clock,
        version=manyhands.__version__,
        api_key=options.api_key,
        control=Control(
            key,
            swarm.founder,
            lambda invite: write_link(swarm.doors, invite),
            Preview(swarm.opened),
        ),
        allowed_hosts=options.allow_hosts,
        allowed_origins=options.allow_origins,
    )
    async with serving_http(serving, options.http_host, listening=listening) as url:
        with announced(home, url, wall_clock(), options.api_key, key):
            invite = swarm.founder.invite()
            if options.http_port is None and not url.endswith(f":{API_PORT}"):
                console.say(f"the usual port {API_PORT} is taken, by another one perhaps", "yellow")
            console.say(f"chat: {url}   API: {url}/v1   docs: {url}/docs")
            _tell_joining(console, swarm, invite)
            link = write_link(swarm.doors, invite)
            console.event("ready", url=url, door=str(swarm.door), invite=invite.text, link=link)
            async with asyncio.TaskGroup() as tasks:
                missing = {speaker.name for speaker in swarm.speakers}

                def answers(name: str) -> None:
                    missing.discard(name)
                    if not missing:
                        ready(url)

                for speaker in swarm.speakers:
                    telling = _tell_coverage(console, swarm, speaker, answers)
                    tasks.create_task(telling)
                tasks.create_task(_invite_again(console, swarm, invite))
                at_door = AtDoor(console, swarm.founder.approvals, has_chat=control is not None)
                tasks.create_task(at_door.run())


def _tell_joining(console: Console, swarm: Founding, invite: Invite) -> None:
    where = "on another device"
    if is_loopback(swarm.door.host):
        where = "in another terminal here (other devices cannot: see --lan)"
    console.say(
        f"to join {where}: `hands join` and a word here, or an invite (`hands invite` draws one):\n"
        f"  hands join {swarm.door} --invite {invite.text}",
        is_copied=True,
    )


async def _invite_again(console: Console, swarm: Founding, invite: Invite) -> None:
    """Each invite is for one, and ends: print the next when one was used, or soon will end."""
    life_s = swarm.settings.invite_life_s
    while True:
        why = "somebody joined; for the next one"
        try:
            async with asyncio.timeout(life_s - min(RENEW_BEFORE_S, life_s / 2)):
                await swarm.founder.used(invite)
        except TimeoutError:
            why = "the invite ends soon; from now on use"
        invite = swarm.founder.invite()
        console.say(f"{why}:\n  hands join {swarm.door} --invite {invite.text}", is_copied=True)
        console.event("invite", door=str(swarm.door), invite=invite.text)


async def _tell_coverage(
    console: Console, swarm: Founding, speaker: Speaker, ready: Callable[[str], None]
) -> None:
    """Say what is missing of a model, each time that changes, and when nothing is."""
    node, model = swarm.node, speaker.model
    of = f" of {speaker.name}" if len(swarm.speakers) > 1 else ""
    told: tuple[bool, tuple[Span, ...]] | None = None
    while True:
        is_ready = is_covered(node.directory.swarm, model)
        if not is_ready and told is not None and told[0]:
            await asyncio.sleep(SETTLE_S)
            is_ready = is_covered(node.directory.swarm, model)
        lost = tuple(gaps(held_layers(node.directory.swarm, model.id, model.spec)))
        if (is_ready, lost) != told:
            if is_ready:
                console.say(f"every layer{of} is held: ready to answer", "green")
                ready(speaker.name)
            elif lost:
                names = ", ".join(f"{span.first}:{span.last}" for span in lost)
                console.say(f"waiting for somebody to hold layers {names}{of}", "yellow")
            console.event(
                "coverage",
                model=speaker.name,
                ready=is_ready,
                missing=[[span.first, span.last] for span in lost],
            )
            told = is_ready, lost
        await node.directory.changed()
