"""`spread`: any nn.Module whose blocks stand in a row, run over the peers of a swarm.

Forward only, over peers in this process, as `load` does for models. Knows nothing of torch: what a
module is and does, the engine knows.
"""

from __future__ import annotations

import weakref
from functools import partial
from types import TracebackType
from typing import Any

from manyhands.background import Background
from manyhands.codec import codec
from manyhands.domain.ids import ModelId
from manyhands.domain.settings import Settings
from manyhands.domain.work import Sampling, Want
from manyhands.engine import choice, spread_modules
from manyhands.errors import ManyhandsError, UserError
from manyhands.node.local import LocalSwarm
from manyhands.node.model import Model

_WHOLE = Want(rows="last", token=False, hidden=True)


def spread(
    module: Any, *example: Any, peers: int = 3, settings: Settings | None = None, **named: Any
) -> Spread:
    """A module spread over `peers` peers in this process: call it as you would call the module.

    `example` and `named` are what it is called with once, here, to see how it can be cut: tensors
    of the kind it will get, of any length. Later calls may have other shapes, not other arguments.
    Raises NotServed, with the reason, for a module whose blocks are not called one after the other.
    """
    used = settings or Settings()
    if not example and not named:
        raise UserError("give an example of what the module is called with: spread(module, x)")
    spine = spread_modules.find(module, (example, named), peers)
    spec = spread_modules.spec_of(spine)
    name = spread_modules.identity(spine)
    model = Model(
        id=ModelId(name),
        spec=spec,
        profile=spread_modules.profile(name),
        load=lambda span: spread_modules.load(spine, spec, span),
        stored=(spec.span,),
    )
    loop = Background()
    start = spread_modules.on_start()
    make = partial(LocalSwarm, model, peers, choice.this_device(), used, start)
    return Spread(loop, loop.start(make), spine, model)


class Spread:
    """A spread module. Use it as a context manager or `close` it; it also ends when forgotten."""

    def __init__(
        self, loop: Background, swarm: LocalSwarm, spine: spread_modules.Spine, model: Model
    ) -> None:
        self._loop, self._swarm, self._spine, self._model = loop, swarm, spine, model
        weakref.finalize(self, loop.close)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns, computed by the swarm. Raises UserError, NoStandIn and so on."""
        row = self._spine.row((args, kwargs))
        return self._spine.value(self._loop.ask(self._run(codec.encode("fp32", row))).result())

    def __enter__(self) -> Spread:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all peers."""
        self._loop.close()

    @property
    def peers(self) -> tuple[str, ...]:
        """Each living peer and its layers: 0 stands in front of the blocks, the last behind."""
        self._loop.check_open()
        return tuple(
            f"{number}: layers {' '.join(str(h.span) for h in held if h.state == 'ready')}"
            for number, node in self._swarm.alive().items()
            for held in [node.holdings.holdings()]
        )

    def kill(self, peer: int) -> None:
        """End a peer at once, to see that the next call goes on. Not peer 0: that is you."""

        async def kill() -> None:
            self._swarm.kill(peer)

        self._loop.ask(kill()).result()

    async def _run(self, given: Any) -> Any:
        owner = self._swarm.owner.owner
        session = await owner.open(self._model, Sampling(), 1, 1)
        try:
            results = await session.run([0], _WHOLE, side={spread_modules.INPUT: given})
        finally:
            owner.close(session)
        if results[-1].tensor is None:
            raise ManyhandsError("the last stage sent no tensor")
        return codec.decode(results[-1].tensor)
