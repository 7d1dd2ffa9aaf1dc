"""Which engine this machine uses for a checkpoint, and what the machine is.

The one place that asks whether torch is installed: engines are imported when they are chosen.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from manyhands.domain.device import Device
from manyhands.domain.model_spec import ModelSpec, ModuleSpec
from manyhands.domain.profile import Profile
from manyhands.domain.span import Span
from manyhands.domain.weight_format import weight_format
from manyhands.engine.engine import Engine, Weights
from manyhands.engine.served import TRANSFORMERS
from manyhands.engine.weights import stored_dtype
from manyhands.errors import BadSetting, NotServed

MOST_THREADS = 4096
"""More than the cores of any one machine; torch breaks in its own words on absurd numbers."""

_FORMATS = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}
_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_UNTOLD_MEMORY_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine made ready for one checkpoint. `on_start` runs first in each compute thread.

    `bytes_per_weight` is of one that is not in blocks of integers, `bytes_per_kv` of an element of
    key/value memory.
    """

    load: Callable[[Span, int], Engine]
    profile: Callable[[str], Profile]
    bytes_per_weight: float
    bytes_per_kv: float
    on_start: Callable[[], None] | None = None


def choose(
    engine: str,
    dtype: str,
    threads: int | None,
    spec: ModelSpec,
    weights: Weights,
    glance: Weights | None = None,
) -> Kind:
    """The engine named, or for `auto` torch where it is installed.

    `glance` tells a tensor's dtype alone, where `weights` may have no bytes of it yet. `dtype` is
    auto, fp32, bf16 or fp16, or torch's name of one; a model in integers may be named by its
    format. Raises BadSetting for unknown names, for torch where there is none, and for a dtype or
    threads that the engine cannot follow.
    """
    glance = glance or weights
    if engine not in ("auto", "numpy", "torch"):
        raise BadSetting(f"engine is {engine!r}; it must be auto, numpy or torch")
    if not isinstance(dtype, str):
        raise BadSetting(
            f"dtype is {dtype!r:.200}; it must be the name auto, fp32, bf16 or fp16, as a text"
        )
    wanted = "auto" if dtype == weight_format(spec) else _NAMES.get(dtype, dtype)
    if isinstance(spec.layers[0].part, ModuleSpec):
        return _modules(engine, wanted, threads, spec, weights, glance)
    has_torch = importlib.util.find_spec("torch") is not None
    if engine == "torch" and not has_torch:
        raise BadSetting(
            "engine is 'torch', which is not installed here: pip install -e '.[torch]' in your "
            "clone, or use engine='numpy'"
        )
    if engine == "torch" or (engine == "auto" and has_torch):
        return _torch(wanted, threads, spec, weights, glance)
    if wanted not in ("auto", "fp32"):
        raise BadSetting(
            f"dtype is {dtype!r}; the numpy engine computes in fp32 only: leave it out (bf16 and "
            "fp16 need engine='torch')"
        )
    if threads is not None and weight_format(spec) is None:
        raise BadSetting(
            f"threads is {threads!r:.200}; the numpy engine leaves threads to BLAS: leave it out, "
            "or use engine='torch'"
        )
    return _numpy(threads, spec, weights, glance)


def _check_threads(threads: int | None) -> None:
    if threads is not None and not (type(threads) is int and 1 <= threads <= MOST_THREADS):
        raise BadSetting(
            f"threads is {threads!r:.200}; it must be a whole number in [1, {MOST_THREADS}], or "
            "left out for the engine's own choice"
        )


def _numpy(threads: int | None, spec: ModelSpec, weights: Weights, glance: Weights) -> Kind:
    from manyhands.engine import numpy_blocks

    _check_threads(threads)
    return Kind(
        load=lambda span, kv_bytes: numpy_blocks.load(
            spec, span, weights, kv_bytes=kv_bytes, threads=threads
        ),
        profile=lambda name: numpy_blocks.profile(name, _stored(spec, glance), "fp32"),
        bytes_per_weight=4.0,
        bytes_per_kv=4.0 if weight_format(spec) is None else 2.0,
    )


def _torch(
    dtype: str, threads: int | None, spec: ModelSpec, weights: Weights, glance: Weights
) -> Kind:
    _check_threads(threads)
    import torch

    from manyhands.engine import torch_blocks

    def on_start() -> None:
        # in the thread itself: one that is older than torch's import has its own, slower settings
        if threads is not None:
            torch.set_num_threads(threads)

    chosen = torch_blocks.resolve_dtype(dtype, spec, spec.span, glance)
    held = 4.0 if chosen == "fp32" else 2.0
    return Kind(
        load=lambda span, kv_bytes: torch_blocks.load(
            spec, span, weights, kv_bytes=kv_bytes, dtype=chosen, threads=threads
        ),
        profile=lambda name: torch_blocks.profile(name, _stored(spec, glance), chosen, chosen),
        bytes_per_weight=held,
        bytes_per_kv=held if weight_format(spec) is None else 2.0,
        on_start=on_start,
    )


def spec_of(config: Mapping[str, Any], stored: Mapping[str, tuple[int, ...]]) -> ModelSpec:
    """The spec of a model that no family file serves, if transformers can run it in stages.

    `stored` has the shape of each of its tensors. Raises NotServed where transformers is not
    installed, and when it was tried and did not; else what engine/module_spec raises.
    """
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise NotServed(
            f"transformers {TRANSFORMERS} may run it, but {' and '.join(missing)} is not installed "
            "here: pip install -e '.[models]' in your clone"
        )
    from manyhands.engine import module_proof

    return module_proof.model_spec(config, stored)


def _modules(
    engine: str,
    dtype: str,
    threads: int | None,
    spec: ModelSpec,
    weights: Weights,
    glance: Weights,
) -> Kind:
    if engine == "numpy":
        raise BadSetting(
            f"engine is 'numpy', but {spec.family} has no family file, and only transformers with "
            "torch can run it: leave engine out"
        )
    from manyhands.engine import module_proof, torch_blocks, torch_modules

    chosen = torch_blocks.resolve_dtype(dtype, spec, spec.span, glance)
    plan = module_proof.plan_of(json.loads(spec.config))
    return replace(
        _torch(chosen, threads, spec, weights, glance),
        load=lambda span, kv_bytes: torch_modules.load(
            spec, span, weights, kv_bytes=kv_bytes, plan=plan, dtype=chosen
        ),
        profile=lambda name: torch_modules.profile(name, _stored(spec, glance), chosen, chosen),
    )


def _stored(spec: ModelSpec, weights: Weights) -> str:
    """The weight format: of integers what the matrices say, else what the smallest tensor says."""
    form = weight_format(spec)
    if form is not None:
        return form
    stored = stored_dtype((layer.tensors for layer in spec.layers), weights)
    return _FORMATS.get(stored, stored)


def this_device() -> Device:
    """What this machine is, for planning among equals in one process.

    Memory is what is free where the system tells, else 8 GiB; speeds are modest guesses, the same
    for every peer, until they are measured.
    """
    return Device(
        kind="cpu",
        memory_bytes=free_memory_bytes(),
        read_bytes_per_s=10e9,
        flops_per_s=50e9,
        overhead_s=1e-4,
    )


def free_memory_bytes() -> int:
    """Memory that programs may still take: the system's own guess, caches it would give up counted.

    Without psutil (a phone may have none) what sysconf knows, which takes caches for used, else
    8 GiB: Windows has no sysconf, macOS not these names, and -1 is what it does not know.
    """
    with contextlib.suppress(ImportError):
        import psutil

        return int(psutil.virtual_memory().available)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        pages, page_bytes = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        if pages > 0 and page_bytes > 0:
            return pages * page_bytes
    return _UNTOLD_MEMORY_BYTES
