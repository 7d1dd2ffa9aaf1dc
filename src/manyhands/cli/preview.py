"""What `hands plan` would say, for the page of what runs here; computed beside its event loop."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from manyhands.api.serving import PlanAsked
from manyhands.cli.known_models import KNOWN_MODELS
from manyhands.cli.plan import FORMATS, PlanOptions, plans
from manyhands.cli.planned import as_data, swarm_told
from manyhands.engine.measure import Measured
from manyhands.engine.remembered import measured_here
from manyhands.errors import UserError
from manyhands.node.opened import Opened
from manyhands.store.builtin import STORYTELLER

HERE = "here"
_NAME = re.compile(r"[A-Za-z0-9._/-]{1,200}")


class Preview:
    """Plans for the model that runs, and for known ones; folders of the disk are not looked at."""

    def __init__(self, opened: Opened, measuring: Callable[..., Measured] = measured_here) -> None:
        self.formats = FORMATS
        self.names = (opened.name, *(model.name for model in KNOWN_MODELS))
        self._opened, self._measuring = opened, measuring

    async def plan(self, asked: PlanAsked, swarm: Mapping[str, Any]) -> dict[str, Any]:
        """The data of `hands plan --json`, and `busy`: the machine's, while it was measured.

        Raises what `plans` raises.
        """
        model = self._model(asked.model)
        options = PlanOptions((model,), asked.form, asked.context, asked.more)
        stop = threading.Event()
        work = functools.partial(
            plans,
            options,
            functools.partial(swarm_told, swarm, HERE),
            functools.partial(self._measuring, stop=stop),
            {model: self._opened.name} if asked.model == self._opened.name else {},
        )
        try:
            found = await asyncio.to_thread(work)
        finally:
            stop.set()  # left alone when the server ends, a child would measure on
        return {**as_data(found.planned[0], is_swarm=True), "busy": found.busy}

    def _model(self, name: str) -> str:
        """As it is typed behind `hands plan`."""
        if name == self._opened.name:
            return STORYTELLER if name == STORYTELLER else str(self._opened.folder)
        if not _NAME.fullmatch(name) or Path(name).exists():
            raise UserError(
                f"{name!r} is no model's name; for a folder type `hands plan FOLDER` where it lies"
            )
        return name
