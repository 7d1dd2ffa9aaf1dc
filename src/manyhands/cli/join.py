"""`hands join`: give this device to a swarm, until Ctrl-C."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from manyhands.cli.choosing import choose_door
from manyhands.cli.console import Console, end_with_parent, until_signal
from manyhands.cli.following import follow
from manyhands.cli.gauging import gauge
from manyhands.cli.limits import NO_LIMITS, LimitOptions, Sparing, follow_sleep
from manyhands.cli.loading import Fetch, shown_loading
from manyhands.cli.running import dtype_of, models_here, open_running, wanted_of
from manyhands.cli.words import (
    as_size,
    check_fits,
    check_host,
    check_public_port,
    cost_of,
    device_here,
    planned_tokens,
    read_size,
    read_span,
)
from manyhands.domain.admission import RunningModel
from manyhands.domain.device import Device
from manyhands.domain.ids import short
from manyhands.domain.settings import Settings
from manyhands.domain.span import Span
from manyhands.errors import DeadlinePassed, PeerLost, ResourceError
from manyhands.launch.joining import DoorAddress, Entered, enter, read_door, told_time
from manyhands.launch.link import is_link, read_link
from manyhands.node.app import Node
from manyhands.node.giving import Giving
from manyhands.node.live import Listening, LivePeer, wall_clock
from manyhands.node.obtaining import fetched_folder, fetching
from manyhands.node.opened import Opened
from manyhands.plan.cost import fits, memory_bytes
from manyhands.plan.share import gaps, held_layers, share, stage_of
from manyhands.plan.taken import left_of
from manyhands.store.home import Home
from manyhands.trust.certificate import Membership
from manyhands.trust.invite import Invite, read_invite


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """What was typed; see `hands join --help`."""

    address: str | None = None
    invite: str | None = None
    model: str | None = None
    span: str | None = None
    memory: str | None = None
    disk: str | None = None
    host: str | None = None
    public_host: str | None = None
    port: int = 0
    public_port: int | None = None
    threads: int | None = None
    with_parent: bool = False
    limits: LimitOptions = NO_LIMITS


async def join(console: Console, options: JoinOptions, settings: Settings) -> None:
    """Become a member, load a share, work until told to leave. Raises what stops it."""
    doors, invite = read_way(options)
    if options.host is not None:
        check_host(options.host, options.public_host)
    check_public_port(options.public_port, options.port, "--port")
    if options.disk is not None:
        settings = replace(settings, fetched_bytes=read_size(options.disk))
    sparing = Sparing(options.limits, is_child=options.with_parent)
    visit = _Visit(console, options, settings, sparing)
    async with until_signal() as asked:
        with Home.standard() as home, sparing.group():
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(visit.work(home, doors, invite))
                parent_ended = asyncio.Event()

                async def watch_parent() -> None:
                    await end_with_parent(parent_ended)
                    asked.set()

                watching = [tasks.create_task(watch_parent())] if options.with_parent else []
                await asked.wait()
                console.say("leaving: running answers go on with the others")
                if not parent_ended.is_set():  # else there is nobody to answer
                    await visit.leave()
                for task in (working, *watching):
                    task.cancel()
            console.event("left")


class _Visit:
    """From the door to the farewell."""

    def __init__(
        self, console: Console, options: JoinOptions, settings: Settings, sparing: Sparing
    ) -> None:
        self._console, self._options, self._settings = console, options, settings
        self._sparing = sparing
        self._giving: Giving | None = None

    async def work(self, home: Home, doors: tuple[DoorAddress, ...], invite: Invite | None) -> None:
        """Until cancelled; the others are told on the way out."""
        console, settings, keys = self._console, self._settings, home.keys()
        chosen = await choose_door(console, settings, home, keys, doors, invite)
        door = chosen.address

        def show(code: str) -> None:
            console.say(f"asking {door} to be let in. Both screens show this code:  {code}", "bold")
            console.say("leave by Ctrl-C if the other screen shows another one", "dim")
            console.event("asking", door=str(door), code=code)

        entered = await enter(home, keys, door, invite, settings, show, chosen.swarm)

        async def renewal() -> Membership:
            at = joining.peer.address
            return (await enter(home, keys, door, None, settings, address=at)).membership

        threads = self._sparing.threads(wanted_of(entered.admission)[0], self._options.threads)
        options = replace(self._options, threads=threads)
        joining = _Joining(console, options, settings, entered, home)
        is_guest = entered.membership.is_guest
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(joining.peer.run(None if is_guest else renewal))
            await self._sparing.begin(joining.peer, threads)
            await joining.peer.node.started()
            self._giving = self._sparing.giving(joining.peer, console)
            tasks.create_task(self._giving.run())
            tasks.create_task(follow_sleep(self._giving))
            tasks.create_task(joining.work())
            if is_guest:
                tasks.create_task(_end_of_visit(console, entered.membership))

    async def leave(self) -> None:
        """Return once nobody's answer depends on us, or another signal ends the process."""
        if self._giving is not None:
            await self._giving.leave(self._tell_wait)

    def _tell_wait(self, sessions: int) -> None:
        answers = "a running answer" if sessions == 1 else f"{sessions} running answers"
        self._console.say(
            f"finishing {answers} that nobody else can take over; Ctrl-C again leaves at once"
        )
        self._console.event("finishing", sessions=sessions)


async def _end_of_visit(console: Console, membership: Membership) -> None:
    """Raise DeadlinePassed when a guest's time is over."""
    left_s = membership.expires_s - wall_clock()
    console.say(f"a guest here for {told_time(left_s)}")
    console.event("guest", left_s=left_s)
    await asyncio.sleep(left_s)
    raise DeadlinePassed("the time this device was invited for is over; ask for another invite")


def read_way(options: JoinOptions) -> tuple[tuple[DoorAddress, ...], Invite | None]:
    """Where to go and by which invite, as far as that was typed. Raises UserError."""
    doors: tuple[DoorAddress, ...] = ()
    invite = None
    for typed in (options.address, options.invite):
        if typed and is_link(typed):
            link = read_link(typed)
            doors, invite = doors or link.doors, link.invite
        elif typed and typed == options.address:
            doors = (read_door(typed),)
        elif typed:
            invite = read_invite(typed)
    return doors, invite


class _Joining:
    """A member that has not loaded anything yet."""

    def __init__(
        self,
        console: Console,
        options: JoinOptions,
        settings: Settings,
        entered: Entered,
        home: Home,
    ) -> None:
        self._console, self._settings, self._entered = console, settings, entered
        self._options, self._home = options, home
        self._here = device_here(options.memory)
        self._wanted = wanted_of(entered.admission)
        self._fetch = Fetch()
        # what is wrong with one that is here is said before anybody hears of us
        self._opened = {
            one.model.id: one
            for one in models_here(self._wanted, options.model, options.threads, settings)
        }
        for opened in self._opened.values():
            self._span_of(opened)
        self.peer = LivePeer(
            entered.membership,
            (),
            self._here,
            settings,
            Listening(
                options.host or entered.own_host,
                options.port,
                options.public_host,
                public_port=options.public_port,
            ),
        )

    async def work(self) -> None:
        """Meet the others, load a share, say so."""
        node = self.peer.node
        await node.started()
        for contact in self._entered.admission.contacts:
            node.directory.join(contact.peer, contact.address)
        await self._met(node)
        self._console.say(f"joined as peer {short(node.peer)} at {self.peer.address}")
        if not self._options.with_parent:  # several on one machine are all alike, and disturb
            wanted, threads = self._wanted[0], self._options.threads
            await gauge(self._console, node, wanted.engine, dtype_of(wanted), threads)
        await self._take_all(node)
        await self._tell_company(node)

    async def _take_all(self, node: Node) -> None:
        """Load a share of each model, first of those with layers that nobody holds.

        Of those that others hold already each gets an equal part of the memory that is left.
        Raises ResourceError where nothing of any fits.
        """
        opened = await self._all_opened(node)
        here = self._here
        for number, one in enumerate(opened):
            span = self._span_of(one) or self._share(node, one, here, len(opened) - number)
            if span is None:
                continue
            await self._take(node, one, span)
            tokens = planned_tokens(one.model, self._settings)
            here = left_of(here, memory_bytes(one.model.spec, span, tokens, cost_of(one.model)))
        if here is self._here:
            names = " or ".join(one.name for one in opened)
            tokens = planned_tokens(opened[0].model, self._settings)
            raise ResourceError(
                f"not one layer of {names} fits into {as_size(here.memory_bytes)} with memory "
                f"for {tokens} tokens; free some memory, or join a swarm with a smaller model"
            )

    async def _all_opened(self, node: Node) -> list[Opened]:
        """With layers typed those of one model alone: the one typed, else the swarm's first."""
        wanted = self._wanted
        if self._options.span is not None:
            wanted = tuple(one for one in wanted if one.id in self._opened)[:1] or wanted[:1]
        opened = [self._opened.get(one.id) or await self._obtained(node, one) for one in wanted]
        for one in opened:
            await self.peer.adopt(one.model, one.on_start)

        def is_held(one: Opened) -> bool:
            swarm, model = node.directory.swarm, one.model
            return not gaps(held_layers(swarm, model.id, model.spec, node.peer))

        return sorted(opened, key=is_held)

    async def _take(self, node: Node, opened: Opened, span: Span) -> None:
        before = node.holdings.room_bytes()
        loading = node.hold(opened.model, span)
        here = opened.checkpoint.fetched
        if here is not None:
            due = here.table.of_ranges(opened.checkpoint.ranges(span)) - here.had
            self._fetch = Fetch(here.table.size_bytes(due))
        await shown_loading(self._console, opened, span, loading, self._fetch)
        held_bytes = before - node.holdings.room_bytes()
        self._console.say(
            f"ready: layers {span.first}:{span.last} of {opened.name}, {as_size(held_bytes)}. "
            "Ctrl-C leaves cleanly."
        )
        self._console.event(
            "ready",
            peer=node.peer,
            address=self.peer.address,
            model=opened.name,
            first=span.first,
            last=span.last,
            weight_bytes=held_bytes,
        )
        founder = self._entered.admission.contacts[0].peer  # who asks most, probably
        is_movable = self._options.span is None
        follow(self._console, node, opened.model, founder, self._settings, is_movable=is_movable)

    async def _obtained(self, node: Node, wanted: RunningModel) -> Opened:
        """A model from those who have it: what it is; its weights come when held."""
        models = self._home.models
        self._console.say(f"asking the others for {wanted.name} …")
        folder = await fetched_folder(node.fetcher, wanted.id, models)
        opened = await asyncio.to_thread(
            open_running, wanted, folder, self._options.threads, self._settings
        )
        opened = replace(opened, name=wanted.name)
        return fetching(opened, node.fetcher, lambda size: self._fetch.told(size))

    def _span_of(self, opened: Opened) -> Span | None:
        """What was typed. Raises UserError, ResourceError when it does not fit."""
        if self._options.span is None:
            return None
        span = read_span(self._options.span, opened.model.spec)
        check_fits(opened.model, span, self._here, self._settings)
        return span

    async def _tell_company(self, node: Node) -> None:
        """Say when nobody else is left, and when somebody is back, until cancelled."""
        was_alone = False
        while True:
            is_alone = len(node.directory.swarm.peers) < 2
            if is_alone != was_alone:
                self._console.say(
                    "nobody else is here any more: waiting for the swarm to come back"
                    if is_alone
                    else "the swarm is back",
                    "yellow" if is_alone else "green",
                )
                self._console.event("company", peers=len(node.directory.swarm.peers) - 1)
                was_alone = is_alone
            await node.directory.changed()

    async def _met(self, node: Node) -> None:
        """Return once anybody else's record is here."""
        limit_s = 2 * self._settings.dial_deadline_s
        try:
            async with asyncio.timeout(limit_s):
                while len(node.directory.swarm.peers) < 2:
                    await node.directory.changed()
        except TimeoutError:
            where = ", ".join(contact.address for contact in self._entered.admission.contacts)
            raise PeerLost(
                f"the door let us in, but no peer answers at {where} within {limit_s:.0f} s; is a "
                "firewall in between, and are both clocks right?"
            ) from None

    def _share(self, node: Node, opened: Opened, here: Device, parts: int) -> Span | None:
        """What is needed most, within what `here` has left; a copy takes one of `parts` of it."""
        model = opened.model
        swarm, cost = node.directory.swarm, cost_of(model)
        tokens = planned_tokens(model, self._settings)
        founder = self._entered.admission.contacts[0].peer  # who asks most, probably
        span = stage_of(swarm, model.id, model.spec, node.peer, founder, tokens, cost)
        if span is not None and fits(model.spec, span, here, tokens, cost):
            return span
        counts = held_layers(swarm, model.id, model.spec, node.peer)
        if not gaps(counts):
            here = replace(here, memory_bytes=here.memory_bytes // parts)
        return share(counts, model.spec, here, tokens, cost)
