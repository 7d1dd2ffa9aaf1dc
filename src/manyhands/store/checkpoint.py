"""A model folder on disk: what model it is, and which byte range of which file holds which tensor.

Reads `config.json` and safetensors headers when opened, afterwards only the bytes asked for. A file
of our own layout is shown where it lies (mapped), not copied; no other stays open in between. Knows
nothing of engines, devices or where the folder came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from manyhands.domain.ids import ModelId, canonical_bytes
from manyhands.domain.model_spec import BlockSpec, ModelSpec, ModuleSpec, TensorSource
from manyhands.domain.span import Span, missing
from manyhands.domain.stored_parts import stored_parts
from manyhands.domain.tensor_frame import StoredTensor
from manyhands.errors import CheckpointError, NotServed, UnknownFamily
from manyhands.families.family import model_spec
from manyhands.store.fetched import FetchedFolder
from manyhands.store.json_file import read_object
from manyhands.store.safetensors_header import Place
from manyhands.store.sentence_form import SentenceForm, applied, read_sentence_form
from manyhands.store.stacked_experts import unstacked
from manyhands.store.stored_checks import check_dtype, check_shape
from manyhands.store.weight_bytes import WeightBytes
from manyhands.store.weight_files import find_tensors, model_folder

PAGE_BYTES = 4096
"""The least that is read of a tensor at a place."""

MOST_PAGES = 8192
"""So many pages, up to twice as many, go into a model's identity, spread evenly over its weights.

So of a model below 64 MiB every byte is in it, and of a larger one every hole as long as an 8192th
of its bytes is noticed: 1 MiB of 8 GiB.
"""

COMPARED_BYTES = 4 * 2**20
"""How much of two tensors is in memory while they are compared."""

_HARMLESS = (".rotary_emb.inv_freq", ".attn.causal_mask")
"""Endings of tensors that old files carry and nobody needs: they follow from the config."""

_MASKS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
"""The same, where they are no vectors: the GPT families kept their causal masks like weights."""

_OWN_HEADS = tuple(
    f"{name}.weight"
    for name in ("lm_head", "embed_out", "output_projection", "language_model.lm_head")
)
"""A head's own matrix, in all families whose head may be tied to the embedding."""


SpecOf = Callable[[Mapping[str, Any], Mapping[str, tuple[int, ...]]], ModelSpec]
"""Makes the spec of a model without family file, of its config and the shapes of its tensors."""


class Checkpoint:
    """A model folder. `bytes_read` counts the weight bytes read so far, headers not counted.

    `sentence_form` is how an encoder's folder makes one vector of a text, where it says so.
    `fetched` says which bytes are here of a folder that is fetched from others; None: all are.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        places: dict[str, Place],
        sentence_form: SentenceForm | None = None,
        otherwise: SpecOf | None = None,
        fetched: FetchedFolder | None = None,
    ) -> None:
        self.folder, self.fetched = folder, fetched
        self.config = config
        self.spec = _spec(config, places, otherwise)
        self.sentence_form = sentence_form if self.spec.answers.startswith("pool_") else None
        if self.sentence_form is not None:
            self.spec = applied(self.spec, self.sentence_form)
        self.bytes_read = 0
        self._places = places = unstacked(self.spec, _as_with_head(places, self.spec))
        self._files = WeightBytes({place.file for place in places.values()})

    @classmethod
    def open(cls, folder: Path | str, otherwise: SpecOf | None = None) -> Checkpoint:
        """Read the config and every header of `folder` (`~` is your home); no weights yet.

        `otherwise` is asked for the spec of a model that no family file serves.
        Raises CheckpointError (missing, damaged or another format), UnknownFamily, NotServed.
        """
        folder = model_folder(folder)
        places = find_tensors(folder)  # first: a folder of another format may have no config.json
        form = read_sentence_form(folder)
        fetched = FetchedFolder.open(folder)
        return cls(folder, read_object(folder / "config.json"), places, form, otherwise, fetched)

    def check(self, span: Span | None = None) -> None:
        """See that every tensor of the span (default: all layers) is there with its shape.

        A tensor beside a block's own that its family does not read is an error too: the model would
        run, and run wrong. Raises CheckpointError naming the tensor.
        """
        span = self.spec.span if span is None else span
        if not self.spec.span.covers(span):
            raise CheckpointError(f"span {span} is outside this model's {self.spec.span}")
        for layer in range(span.first, span.last):
            for source in self.spec.layers[layer].tensors.values():
                for part in stored_parts(source):
                    name = part.names[0]
                    check_shape(part, name, self._place(name))
                    check_dtype(source, part, self._place(name))
                    # a library ties weights by rules of its own
                    is_ours = not isinstance(self.spec.layers[layer].part, ModuleSpec)
                    if part.layout == "tied" and is_ours and self.fetched is None:
                        self._check_same(name)
            self._check_nothing_unread(layer)

    def _check_same(self, name: str) -> None:
        """A file may hold a tied head once more, but then transformers ties equal ones only."""
        other = next((head for head in _OWN_HEADS if head in self._places), None)
        if other is None:
            return
        one, two = self._place(name), self._place(other)
        size = one.last - one.first
        cuts = [(at, min(at + COMPARED_BYTES, size)) for at in range(0, size, COMPARED_BYTES)]
        same_form = (one.dtype, one.shape) == (two.dtype, two.shape)
        if not same_form or any(self._bytes(one, *c) != self._bytes(two, *c) for c in cuts):
            raise CheckpointError(
                f"{two.file}: config.json says the head is the embedding {name!r}, but {other!r} "
                "is there and differs; set tie_word_embeddings to false in config.json"
            )

    def _check_nothing_unread(self, layer: int) -> None:
        names = {n for source in self.spec.layers[layer].tensors.values() for n in source.names}
        shared = takewhile(
            lambda parts: len(set(parts)) == 1, zip(*map(_parts, names), strict=False)
        )
        prefix = "".join(f"{parts[0]}." for parts in shared)
        if not isinstance(self.spec.layers[layer].part, BlockSpec) or not prefix:
            return  # embedding and head share no prefix of their own
        for name in self._places:
            if name.startswith(prefix) and name not in names and not self._is_harmless(name):
                raise CheckpointError(
                    f"{self._places[name].file}: tensor {name!r} is not one that the family "
                    f"{self.spec.family} reads, so the model would run wrong; is model_type right?"
                )

    def _is_harmless(self, name: str) -> bool:
        is_mask = name.endswith(_MASKS) and len(self._places[name].shape) != 1
        return is_mask or name.endswith(_HARMLESS)

    def read(self, source: TensorSource) -> StoredTensor:
        """One tensor in a read-only buffer: exactly its bytes are read, of `rows` only those.

        Of our own layout the buffer is the file itself.

        Raises CheckpointError (missing, of another shape, file changed), NotServed for a layout of
        several tensors: ask for each of its `stored_parts`.
        """
        if len(source.names) != 1:
            raise NotServed(
                f"a tensor made of {len(source.names)} stored ones is read part by part"
            )
        place = self._place(source.names[0])
        check_shape(source, source.names[0], place)
        if source.layout != "rows":
            return StoredTensor(place.dtype, place.shape, self._bytes(place, 0, None, is_kept=True))
        return StoredTensor(place.dtype, source.shape, self._rows(place, source))

    def _rows(self, place: Place, source: TensorSource) -> memoryview:
        """The bytes of rows [first, last) of each `of` rows, and no others."""
        row_bytes = (place.last - place.first) // max(1, place.shape[0])
        first, last, of = (row_bytes * rows for rows in (source.first, source.last, source.of))
        if source.runs == 1:
            return self._bytes(place, first, last, is_kept=True)
        taken = np.empty((source.runs, last - first), np.uint8)
        for run in range(source.runs):
            taken[run] = np.frombuffer(
                self._bytes(place, run * of + first, run * of + last), np.uint8
            )
        return taken.reshape(-1).data.toreadonly()

    def identity(self) -> ModelId:
        """The model's name: SHA-256 over its spec and, of every tensor it reads, dtype, shape and
        pages of 4 KiB spread evenly, both ends among them (see MOST_PAGES). How the weights are cut
        into files does not matter.

        It tells models apart and notices most downloads that are not whole. It is no proof: a large
        model's bytes between the pages are not in it; see `digest`. Of a folder that is fetched it
        is what its manifest says.
        """
        if self.fetched is not None:
            return self.fetched.manifest.model
        every = max(1, self.stored_bytes(self.spec.span) // (MOST_PAGES * PAGE_BYTES))
        return ModelId(self._hashed("model-identity", self.spec.span, every * PAGE_BYTES))

    def digest(self, span: Span) -> str:
        """SHA-256 over the spec and every byte of a span's tensors: all of it is read, which takes
        as long as that. Two folders with one digest hold the same weights there.
        """
        return self._hashed("model-weights", span, PAGE_BYTES)

    def _hashed(self, purpose: str, span: Span, every: int) -> str:
        """Of every `every` bytes of each tensor one page, and its last one."""
        named = hashlib.sha256(f"{purpose}\0{self.spec.digest()}".encode())
        for name in sorted(set(self._names(span))):
            place = self._place(name)
            named.update(canonical_bytes([name, place.dtype, place.shape]))
            for first, last in _sampled(place.last - place.first, every):
                named.update(self._bytes(place, first, last))
        return named.hexdigest()

    def dtype(self, name: str) -> str:
        """The dtype a tensor is stored in. Raises CheckpointError when there is none."""
        return self._place(name).dtype

    def stored_bytes(self, span: Span) -> int:
        """Bytes that the span's tensors take in the files, each counted once."""
        places = (self._place(name) for name in set(self._names(span)))
        return sum(place.last - place.first for place in places)

    def glance(self, source: TensorSource) -> StoredTensor:
        """`read` without the bytes: dtype and shape. Raises CheckpointError when it is missing."""
        place = self._place(source.names[0])
        return StoredTensor(place.dtype, place.shape, memoryview(b""))

    def ranges(self, span: Span) -> dict[str, list[tuple[int, int]]]:
        """Of each file (by its name) the bytes [first, last) that hold tensors of the span."""
        found: dict[str, list[tuple[int, int]]] = {}
        for place in (self._place(name) for name in set(self._names(span))):
            found.setdefault(place.file.name, []).append((place.first, place.last))
        return found

    def stored(self) -> tuple[Span, ...]:
        """The layers whose weights are on this disk, as spans."""
        count = len(self.spec.layers)
        here = filter(self._is_here, (Span(layer, layer + 1) for layer in range(count)))
        return missing(missing(here, count), count)  # neighbours as one

    def _is_here(self, span: Span) -> bool:
        here = self.fetched
        return here is None or all(
            here.holds(name, *cut) for name, cuts in self.ranges(span).items() for cut in cuts
        )

    def weight_files(self) -> tuple[Path, ...]:
        """The files that hold the weights, in order of their names."""
        return tuple(sorted({place.file for place in self._places.values()}))

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Token ids that end a text: of generation_config.json, else of the config; () for none.

        An encoder ends none. Raises CheckpointError when they are no token ids of this model.
        """
        if self.spec.answers != "lm":
            return ()
        return self._token_ids("eos_token_id", self._told("eos_token_id"))

    @property
    def beginning(self) -> tuple[int, ...]:
        """Token ids that an answer of an encoder-decoder begins with; () for all other models.

        The decoder's start, and the first token where it is always the same: a language, say.
        Raises CheckpointError when there is none, or when they are no token ids of this model.
        """
        if not self.spec.source:
            return ()
        start = self._told("decoder_start_token_id")
        start = self._told("bos_token_id") if start is None else start
        if start is None:
            raise CheckpointError(
                f"{self.folder}: neither generation_config.json nor config.json says with which "
                "token an answer begins; set decoder_start_token_id"
            )
        return (
            *self._token_ids("decoder_start_token_id", start),
            *self._token_ids("forced_bos_token_id", self._told("forced_bos_token_id")),
        )

    @property
    def unspoken(self) -> tuple[int, ...]:
        """Token ids that an encoder-decoder's folder says are never said, as Marian's padding.

        Raises CheckpointError when they are no token ids of this model.
        """
        if not self.spec.source:
            return ()
        words = self._told("bad_words_ids") or ()
        single = [word[0] for word in words if isinstance(word, list) and len(word) == 1]
        return self._token_ids("bad_words_ids", single)

    def _told(self, name: str) -> Any:
        """What generation_config.json says of answers, else config.json."""
        file = self.folder / "generation_config.json"
        value = (read_object(file) if file.exists() else {}).get(name)
        return self.config.get(name) if value is None else value

    def _token_ids(self, name: str, value: Any) -> tuple[int, ...]:
        ids = [] if value is None else value if isinstance(value, list) else [value]
        for token in ids:
            good = isinstance(token, int) and not isinstance(token, bool)
            if not good or not 0 <= token < self.spec.vocabulary:
                raise CheckpointError(
                    f"{self.folder}: {name} {value!r} is no token id of a model with "
                    f"{self.spec.vocabulary} tokens; check generation_config.json and config.json"
                )
        return tuple(dict.fromkeys(ids))

    def _names(self, span: Span) -> Iterator[str]:
        for layer in self.spec.layers[span.first : span.last]:
            for source in layer.tensors.values():
                yield from source.names

    def _place(self, name: str) -> Place:
        place = self._places.get(name)
        if place is None:
            raise CheckpointError(
                f"{self.folder}: tensor {name!r} is missing; config.json and the weight files do "
                "not belong together or a file is missing; download the model again"
            )
        return place

    def _bytes(
        self, place: Place, first: int, last: int | None, *, is_kept: bool = False
    ) -> memoryview:
        """Bytes [first, last) of a tensor; every read of weights goes through here."""
        last = place.last - place.first if last is None else last
        here, at = self.fetched, place.first + first
        if here is not None and not here.holds(place.file.name, at, place.first + last):
            raise CheckpointError(f"{place.file}: bytes from {at} on are not fetched yet")
        found = self._files.read(
            place.file, at, place.first + last, is_kept=is_kept, is_growing=here is not None
        )
        self.bytes_read += last - first
        return found


def _spec(config: dict[str, Any], places: dict[str, Place], otherwise: SpecOf | None) -> ModelSpec:
    try:
        return model_spec(config)
    except (UnknownFamily, NotServed) as unserved:
        if otherwise is None:
            raise
        try:
            return otherwise(config, {name: place.shape for name, place in places.items()})
        except NotServed as refusal:
            raise NotServed(f"{unserved}. {refusal}") from refusal


def _as_with_head(places: dict[str, Place], spec: ModelSpec) -> dict[str, Place]:
    """Names as a model with its language head has them.

    Files saved without the head (the published GPT-2 and Bloom) lack the first part of every name.
    """
    block = next((layer for layer in spec.layers if isinstance(layer.part, BlockSpec)), None)
    if block is None:
        return places
    prefix = next(iter(block.tensors.values())).names[0].split(".")[0] + "."
    if any(name.startswith(prefix) for name in places):
        return places
    return {name if name in _OWN_HEADS else prefix + name: at for name, at in places.items()}


def _sampled(size: int, every: int) -> Iterator[tuple[int, int]]:
    """Which bytes of `size` to read: all, in pieces, where `every` is a page; else pages."""
    piece = PAGE_BYTES if every > PAGE_BYTES else COMPARED_BYTES
    for first in range(0, size, max(every, piece)):
        yield first, min(first + piece, size)
    if every > PAGE_BYTES:
        yield max(0, size - PAGE_BYTES), size


def _parts(name: str) -> list[str]:
    return name.split(".")
