"""The child process of `measure`: times the engine that would be used here, prints figures as JSON.

    python -m manyhands.engine.measure_child '{"engine": "auto", "dtype": "auto", "threads": null,
                                               "weight_bytes": 536870912}'

It loads blocks of an invented model and steps them, so every figure is the real thing: the engine's
own linear maps, layouts and per-block work. Exits 2 with `code` and `error` for a bad setting.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from manyhands.domain.ids import SessionId
from manyhands.domain.model_spec import ModelSpec, TensorSource
from manyhands.domain.sizes import span_elements
from manyhands.domain.span import Span
from manyhands.domain.stored_parts import stored_parts
from manyhands.domain.tensor_frame import DTYPE_BYTES, StoredTensor
from manyhands.domain.weight_format import (
    INTEGER_FORMATS,
    IntegerFormat,
    bytes_per_number,
    converted,
    dtype_of,
)
from manyhands.engine.choice import Kind, choose
from manyhands.engine.engine import Chunk, Engine
from manyhands.engine.measure import names
from manyhands.engine.weights import NUMPY_FORM
from manyhands.errors import ManyhandsError
from manyhands.families.family import model_spec

STORED = {"auto": "BF16", "fp32": "F32", "bf16": "BF16", "fp16": "F16"}
"""What the invented file holds; nearly every published one holds bfloat16."""

WIDE_BYTES = 1 << 28
"""With fewer weight bytes than this, blocks are half as wide, so that one of them still fits."""

SPARE_S = 0.4
"""About how long the tries of one figure may take together, once they are known to be short."""

LONG_S = 0.5
"""A step as long as this is tried once, not three times."""

FEW_ROWS, MANY_ROWS = 32, 128
"""Of a matrix product: as many as a step of a prompt has (`Settings.chunk_tokens`), or, where that
would take more than three long steps, fewer; few rows reach but a part of the speed."""

SMALL_BLOCKS = 24
"""As many as models have, about: what a step costs once is shared out among them."""

KV_BYTES = 1 << 26

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the parent asks for; `weight_bytes` is how much to read for one figure."""

    engine: str
    dtype: str
    threads: int | None
    weight_bytes: int

    @property
    def form(self) -> IntegerFormat | None:
        """The weight format, where `dtype` names one."""
        return next((form for form in INTEGER_FORMATS if form == self.dtype), None)


def invented(width: int, blocks: int, form: IntegerFormat | None = None) -> ModelSpec:
    """A Llama of `blocks` blocks, four times as wide inside, its matrices as `form` says."""
    plain = model_spec(
        {
            "model_type": "llama",
            "vocab_size": 256,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": blocks,
            "num_attention_heads": max(1, width // 128),
            "num_key_value_heads": max(1, width // 256),
            "max_position_embeddings": 1024,
            "rms_norm_eps": 1e-5,
        }
    )
    return plain if form is None else converted(plain, form)


def weights_of(
    dtype: str, most: int, blocks: Mapping[str, str] = NOTHING
) -> Callable[[TensorSource], StoredTensor]:
    """Small ordinary numbers for any tensor of up to `most` elements, each in memory of its own.

    `blocks` are the names of codes and scales, with the dtype of each.
    """
    numbers = np.resize(np.linspace(-0.02, 0.02, 1009, dtype=np.float32), most)
    if dtype == "BF16":  # the upper halves of float32
        stored = (numbers.view(np.uint32) >> np.uint32(16)).astype(np.uint16).tobytes()
    else:
        stored = numbers.astype(NUMPY_FORM[dtype]).tobytes()
    held = memoryview(stored)

    def read(source: TensorSource) -> StoredTensor:
        due = blocks.get(source.names[0], dtype)
        size_bytes = source.elements * DTYPE_BYTES[due]
        # a copy: numpy takes float32 as it lies, and matrices that share memory share the cache
        return StoredTensor(due, source.shape, memoryview(bytearray(held[:size_bytes])))

    return read


class Steps:
    """An engine with one session over `span`, stepped at position 0 again and again."""

    def __init__(self, engine: Engine, spec: ModelSpec, span: Span, name: str) -> None:
        self._engine, self._session, self._width = engine, SessionId(name * 32), spec.width
        engine.open(self._session, 1024, span=span)

    def seconds(self, rows: int) -> float:
        """The median of several steps of `rows` rows; more of them while they are short."""
        hidden = np.ones((rows, self._width), np.float32)
        chunk = Chunk(self._session, 0, (1,) * rows, hidden, ())
        least = 1 if self._step_s(chunk) > LONG_S else 3
        times: list[float] = []
        while len(times) < least or (sum(times) < SPARE_S and len(times) < 15):
            times.append(self._step_s(chunk))
        return statistics.median(times)

    def _step_s(self, chunk: Chunk) -> float:
        start = time.perf_counter()
        self._engine.step([chunk])
        return time.perf_counter() - start


def overhead_s(wanted: Wanted) -> float:
    """Fixed seconds a block, from blocks so small that nothing else counts."""
    spec = invented(64, SMALL_BLOCKS, wanted.form)
    blocks = Span(1, 1 + SMALL_BLOCKS)
    engine = _kind(wanted, spec).load(blocks, KV_BYTES)
    return Steps(engine, spec, blocks, "0").seconds(1) / SMALL_BLOCKS


def figures(wanted: Wanted) -> dict[str, str | float | int | None]:
    """Every figure of Measured that needs arithmetic."""
    fixed_s = overhead_s(wanted)
    width = 2048 if wanted.weight_bytes >= WIDE_BYTES else 1024
    one = span_elements(invented(width, 1), Span(1, 2))
    small = invented(width, 1, wanted.form)
    each_bytes = bytes_per_number(small, _kind(wanted, small).bytes_per_weight)
    count = max(1, round(wanted.weight_bytes / (one * each_bytes)))
    spec = invented(width, count, wanted.form)
    blocks = Span(1, count + 1)
    kind = _kind(wanted, spec)
    engine = kind.load(blocks, KV_BYTES)
    read_s = Steps(engine, spec, blocks, "1").seconds(1)
    rate = engine.weight_bytes / max(read_s - count * fixed_s, read_s / 10)
    name, dtype = names(kind)
    return {
        "engine": name,
        "dtype": dtype,
        "bytes_per_number": each_bytes,
        "bytes_per_kv": kind.bytes_per_kv,
        "read_bytes_per_s": rate,
        "flops_per_s": _flops_per_s(Steps(engine, spec, Span(1, 2), "2"), one, fixed_s),
        "overhead_s": fixed_s,
    }


def _flops_per_s(steps: Steps, elements: int, fixed_s: float) -> float:
    rows, took_s = FEW_ROWS, steps.seconds(FEW_ROWS)
    if took_s * MANY_ROWS / FEW_ROWS < 3 * LONG_S:
        rows, took_s = MANY_ROWS, steps.seconds(MANY_ROWS)
    return 2.0 * elements * rows / max(took_s - fixed_s, took_s / 10)


def _kind(wanted: Wanted, spec: ModelSpec) -> Kind:
    sources = [source for layer in spec.layers for source in layer.tensors.values()]
    parts = {
        part.names[0]: dtype
        for source in sources
        for part in stored_parts(source)
        if (dtype := dtype_of(source, part)) is not None
    }
    most = max(source.elements for source in sources)
    read = weights_of(STORED.get(wanted.dtype, "BF16"), most, parts)
    dtype = wanted.dtype if wanted.form is None else "auto"
    kind = choose(wanted.engine, dtype, wanted.threads, spec, read)
    if kind.on_start is not None:
        kind.on_start()
    return kind


def main(arguments: list[str]) -> int:
    """Measure and print; the exit status."""
    try:
        told = figures(Wanted(**json.loads(arguments[0])))
    except ManyhandsError as error:
        sys.stdout.write(json.dumps({"code": error.code, "error": str(error)}) + "\n")
        return error.exit_code
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
