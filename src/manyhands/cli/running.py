"""The models that a swarm runs, as they lie on this disk: opened to compute as the swarm does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyhands.domain.admission import Admission, RunningModel
from manyhands.domain.ids import short
from manyhands.domain.settings import Settings
from manyhands.domain.weight_format import INTEGER_FORMATS
from manyhands.errors import BadSetting, UserError
from manyhands.node.opened import Opened, open_model
from manyhands.store.builtin import STORYTELLER, folder_of


def wanted_of(admission: Admission) -> tuple[RunningModel, ...]:
    """The models that the swarm runs. Raises UserError when it runs none."""
    if not admission.models:
        raise UserError("this swarm runs no model yet; start one there with `hands run`")
    return admission.models


def models_here(
    wanted: Sequence[RunningModel], typed: str | None, threads: int | None, settings: Settings
) -> list[Opened]:
    """Those of the swarm's models that lie on this disk: the one typed, else the storyteller.

    Raises UserError when the one typed is none of the swarm's, and what `open_running` raises.
    """
    found = [
        open_running(one, folder_of(STORYTELLER), threads, settings)
        for one in wanted
        if one.name == STORYTELLER and typed is None
    ]
    if typed is None:
        return found
    folder, others = folder_of(typed), []
    for one in wanted:
        try:
            return [open_running(one, folder, threads, settings)]
        except UserError as error:  # another of them, perhaps
            others.append(error)
    raise others[0]


def open_running(
    wanted: RunningModel, folder: Path, threads: int | None, settings: Settings
) -> Opened:
    """A model of the swarm as it lies in a folder here, with the engine the swarm computes with.

    Raises CheckpointError when it does not lie there, UserError when another does, BadSetting
    when this machine cannot compute like the swarm.
    """
    try:
        opened = open_model(
            folder, settings, engine=_engine(wanted), dtype=dtype_of(wanted), threads=threads
        )
    except BadSetting as error:
        raise BadSetting(
            f"the swarm computes with {wanted.engine} in {wanted.dtype}, and this machine cannot: "
            f"{error}; or start the swarm with --engine numpy, which every machine has"
        ) from error
    if opened.model.id != wanted.id:
        raise UserError(
            f"{folder} is model {short(opened.model.id)}, and the swarm runs {wanted.name}, "
            f"{short(wanted.id)}: other weights or another config; copy the same files here"
        )
    return opened


def _engine(wanted: RunningModel) -> str:
    # in integers the engines may stand in for each other: see engine/integers
    return "auto" if wanted.dtype in INTEGER_FORMATS else wanted.engine


def dtype_of(wanted: RunningModel) -> str:
    """What it is computed in, as `open_model` is told."""
    return wanted.dtype if wanted.engine == "torch" else "auto"
