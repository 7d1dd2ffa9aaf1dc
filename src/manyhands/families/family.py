"""Finds the family file of a config's `model_type` and asks it for the ModelSpec.

A family is a file `families/<model_type>.py` (a hyphen is a `_` there) with a function
`spec(config) -> ModelSpec`; there is no registry to edit. `ARCHITECTURES` in it says how the names
of the architectures end that it serves; without it those are language models. Reads no checkpoint:
a config comes in as a mapping.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from importlib import import_module
from typing import cast

from manyhands import families
from manyhands.domain.model_spec import ModelSpec
from manyhands.domain.weight_format import (
    METHOD,
    STORED_FORMATS,
    VERSION,
    StoredFormat,
    converted,
)
from manyhands.errors import NotServed, UnknownFamily
from manyhands.families.values import Config, section, strings, whole, word

_MODEL_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")


def model_spec(config: Config) -> ModelSpec:
    """What the model of this `config.json` is, as data every engine can run.

    Raises UnknownFamily when no file serves its `model_type`, CheckpointError for missing or absurd
    values (naming the key), NotServed for a switch that no engine of ours computes: a model is
    refused, never run wrong.
    """
    model_type = word(config, "model_type")
    name = model_type.replace("-", "_")
    make = _spec_function(name) if name in _files() else None
    if make is None:
        shown = model_type if _MODEL_TYPE.fullmatch(model_type) else repr(model_type[:40])
        raise UnknownFamily(
            f"no family file serves model_type {shown}; served are {', '.join(known_families())}"
        )
    _refuse_what_is_not_served(config, name)
    form = stored_format(config)
    if form is None:
        return make(config)
    as_published = {**config, "quantization_config": None}
    ranks = stored_ranks(config)
    return converted(make(as_published), None if form == "bf16" else form, ranks)


def stored_format(config: Config) -> StoredFormat | None:
    """What a folder was converted to by us; None for one as it was published.

    Raises NotServed for a later layout of ours.
    """
    told = section(config, "quantization_config")
    if told.get("quant_method") != METHOD:
        return None
    form = told.get("format")
    for known in STORED_FORMATS:
        if form == known and told.get("version") == VERSION:
            return known
    raise NotServed(
        f"the folder was converted to {str(form)[:40]!r}, layout {str(told.get('version'))[:10]}; "
        f"this version reads {', '.join(STORED_FORMATS)} of layout {VERSION}: convert it again"
    )


def stored_ranks(config: Config) -> dict[str, int]:
    """Which matrices of a converted folder are of low rank, by our names, and of which.

    Raises CheckpointError for what is none.
    """
    ranks = section(section(config, "quantization_config"), "low_rank")
    return {name: whole(ranks, name) for name in ranks}


def known_families() -> tuple[str, ...]:
    """Every `model_type` that is served, in alphabetical order."""
    return tuple(name for name in sorted(_files()) if _spec_function(name) is not None)


def _files() -> set[str]:
    # Only names of files that stand in this folder are ever imported, whatever a config says.
    found = {module.name for module in pkgutil.iter_modules(families.__path__)}
    return {name for name in found if _MODEL_TYPE.fullmatch(name)}


def _spec_function(name: str) -> Callable[[Config], ModelSpec] | None:
    return cast("Callable[[Config], ModelSpec] | None", _said(name, "spec"))


LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel")
"""How the names of architectures end that a family serves which says nothing."""


def _said(name: str, attribute: str) -> object:
    """What a family file says under a name, or None."""
    return getattr(import_module(f"{families.__name__}.{name}"), attribute, None)


def _refuse_what_is_not_served(config: Config, family: str) -> None:
    """A family may say READS_QUANTISED, methods it knows, KNOWN_CODE, which is not needed, and
    ARCHITECTURES, endings of the classes it serves in place of those with a plain language head.
    """
    quantised = section(config, "quantization_config")
    read = cast("tuple[str, ...]", _said(family, "READS_QUANTISED") or ())
    if quantised and quantised.get("quant_method") not in (*read, METHOD):
        method = quantised.get("quant_method", "unnamed")
        also = f", or files quantised with {', '.join(read)}" if read else ""
        raise NotServed(
            f"the weights are quantised ({method}); take the model's plain bf16, fp16 or fp32 "
            f"files, which `hands pull FOLDER --format int8 --to NEW` converts{also}"
        )
    codes = section(config, "auto_map")
    code = codes.get("AutoModelForCausalLM") or next(
        (code for name, code in codes.items() if str(name).startswith("AutoModel")), None
    )
    known = cast("tuple[str, ...]", _said(family, "KNOWN_CODE") or ())
    if code is not None and code not in known:
        raise NotServed(
            "auto_map asks for Python code from the model's folder, which is never executed; "
            "use a model that transformers runs without remote code"
        )
    if config.get("architectures") is None:
        return
    named = strings(config, "architectures")
    endings = cast("tuple[str, ...]", _said(family, "ARCHITECTURES") or LANGUAGE_MODELS)
    if not any(name.endswith(endings) for name in named):
        forms = ", ".join(f"…{ending}" for ending in endings)
        raise NotServed(
            f"architectures {list(named)} are not served for this family; use a model that is one "
            f"of {forms}"
        )
