"""A model folder made ready for this machine: engine chosen, nothing loaded yet.

Joins `store` (what is in the folder) with `engine` (what computes here). Knows nothing of peers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from manyhands.domain.ids import MOST_NAME_CHARACTERS
from manyhands.domain.settings import Settings
from manyhands.engine import choice
from manyhands.node.model import Model
from manyhands.store.checkpoint import Checkpoint
from manyhands.store.hub import origin_of
from manyhands.store.pieces import WholeFolder
from manyhands.store.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Opened:
    """`model` has all its layers stored here; `on_start` runs first in each compute thread.

    `tokenizer` is None for a folder without tokenizer.json: token ids only. `is_normalised` says
    that vectors of texts are made of length 1; so they are where the folder does not say. An
    encoder-decoder's answers have a `beginning`, and tokens that are `unspoken`.
    """

    name: str
    checkpoint: Checkpoint
    model: Model
    tokenizer: Tokenizer | None
    end_tokens: frozenset[int]
    on_start: Callable[[], None] | None
    is_normalised: bool = True
    beginning: tuple[int, ...] = ()
    unspoken: tuple[int, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.checkpoint.folder


def open_model(
    folder: str | Path,
    settings: Settings,
    *,
    engine: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
) -> Opened:
    """Read a folder's headers and choose its engine; see engine/choice for the three words.

    Raises CheckpointError, UnknownFamily, NotServed or BadSetting.
    """
    checkpoint = Checkpoint.open(folder, choice.spec_of)
    checkpoint.check()
    kind = choice.choose(
        engine, dtype, threads, checkpoint.spec, checkpoint.read, checkpoint.glance
    )
    identity = checkpoint.identity()
    model_at_hub = origin_of(checkpoint.folder).partition("@")[0]
    form = checkpoint.sentence_form
    has_text = (checkpoint.folder / "tokenizer.json").exists()
    return Opened(
        name=_sayable(model_at_hub or checkpoint.folder.resolve().name),
        checkpoint=checkpoint,
        model=Model(
            id=identity,
            spec=checkpoint.spec,
            profile=kind.profile(identity),
            load=lambda span: kind.load(span, settings.kv_bytes),
            stored=checkpoint.stored(),
            bytes_per_weight=kind.bytes_per_weight,
            bytes_per_kv=kind.bytes_per_kv,
            shelf=checkpoint.fetched or WholeFolder(checkpoint, identity),
        ),
        tokenizer=Tokenizer.open(checkpoint.folder) if has_text else None,
        end_tokens=frozenset(checkpoint.end_tokens),
        on_start=kind.on_start,
        is_normalised=form is None or form.is_normalised,
        beginning=checkpoint.beginning,
        unspoken=checkpoint.unspoken,
    )


def _sayable(name: str) -> str:
    """A folder's name as newcomers may be told it: the door refuses a long or unprintable one."""
    return "".join(sign if sign.isprintable() else "?" for sign in name[:MOST_NAME_CHARACTERS])
