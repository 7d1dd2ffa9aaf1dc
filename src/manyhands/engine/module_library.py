"""What is used of transformers beside a model's own forward: classes, skeletons, names, filling.

Nearly all of it is public in name only, so it stands in one file and is tested with one minor
version; another is refused. A config's code (`auto_map`) is never run, nothing is ever downloaded.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    rename_source_key,
    revert_weight_conversion,
)
from transformers.modeling_utils import LoadStateDictConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from manyhands.engine.served import TRANSFORMERS
from manyhands.errors import CheckpointError, NotServed, UnknownFamily

MOST_BLOCKS = 2048
"""No model that exists comes near; a skeleton of more would take for ever."""

_NOT_OURS = (
    "auto_map",
    "_attn_implementation",
    "attn_implementation",
    "_experts_implementation",
    "experts_implementation",
    "use_kernels",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_pretrained_backbone",
)
"""Keys of a config that would run code, fetch something, or decide what is ours to decide."""

_DRAWN = "_is_hf_initialized"
"""The library's mark on a weight that it must not draw at random any more."""

_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks")


def check_version() -> None:
    """Raise NotServed for a transformers of another minor version than the one tested."""
    found = ".".join(transformers.__version__.split(".")[:2])
    if found != TRANSFORMERS:
        raise NotServed(
            f"models without a family file are run by transformers {TRANSFORMERS}, installed is "
            f"{transformers.__version__}: pip install 'transformers=={TRANSFORMERS}.*'"
        )


def architecture(config: Mapping[str, Any]) -> tuple[type[PreTrainedModel], Any]:
    """The model class that a `config.json` names, and its config.

    Raises UnknownFamily for a model_type that transformers does not know, NotServed for a class it
    does not have and for quantised weights, CheckpointError for values it does not take.
    """
    check_version()
    model_type = str(config.get("model_type"))[:64]
    if config.get("quantization_config"):
        raise NotServed("the weights are quantised; use the model's plain bf16, fp16 or fp32 files")
    if model_type not in CONFIG_MAPPING:
        code = (
            ""
            if "auto_map" not in config
            else ("; its auto_map asks for Python code from the model's folder, which is never run")
        )
        raise UnknownFamily(
            f"neither a family file nor transformers {transformers.__version__} knows model_type "
            f"{model_type!r}{code}; use another model"
        )
    _check_depth(config)
    try:
        made = CONFIG_MAPPING[model_type].from_dict(_ours(config))
    except Exception as fault:  # every config class has errors of its own
        raise CheckpointError(
            f"config: transformers takes no {model_type} of this kind: {str(fault)[:300]}; check "
            "config.json"
        ) from fault
    return _class(config, model_type), made


def _ours(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _ours(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in _NOT_OURS
    }


def _check_depth(config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        if isinstance(value, Mapping):
            _check_depth(value)
        elif key in _DEPTHS and isinstance(value, int) and not value <= MOST_BLOCKS:
            raise CheckpointError(f"config: {key} is {value}; no model has more than {MOST_BLOCKS}")


def _class(config: Mapping[str, Any], model_type: str) -> type[PreTrainedModel]:
    named = config.get("architectures")
    names = [str(name) for name in named] if isinstance(named, (list, tuple)) else []
    name = names[0] if names else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type, "")
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise NotServed(
            f"architectures {names or 'missing'}: transformers {transformers.__version__} has no "
            f"such model for model_type {model_type}; use a …ForCausalLM model"
        )
    return found


def skeleton(
    made: type[PreTrainedModel], config: Any, dtype: torch.dtype, device: str = "meta"
) -> Any:
    """The whole model without weights (on `meta`), or with random ones (on `cpu`).

    It is built in float32 and its weights then turned: the library builds in another dtype by
    changing torch's default one, in all threads, and others may be computing meanwhile.
    """
    copied = type(config).from_dict(config.to_dict())
    model: Any = None
    for how in ({"attn_implementation": "sdpa"}, {"attn_implementation": "eager"}):
        with contextlib.suppress(ValueError, ImportError), torch.device(device):
            model = _built(made, copied, how)
            break
    if model is None:
        with torch.device(device):
            model = _built(made, copied, {})
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model.eval()


def _built(made: type[PreTrainedModel], config: Any, how: dict[str, Any]) -> Any:
    build: Any = made._from_config  # noqa: SLF001  # from_pretrained wants a folder or a hub name
    return build(config, dtype=torch.float32, **how)


def as_text(config: Mapping[str, Any]) -> str:
    """A config as canonical JSON, numbers with a point kept as such."""
    return json.dumps(dict(config), sort_keys=True, separators=(",", ":"))


def tied(model: Any) -> dict[str, str]:
    """Weights that are another's: name -> the name of that one."""
    return dict(model.all_tied_weights_keys)


def module_names(model: Any, stored: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which weights of a skeleton each stored tensor goes into; () for those it has no place for.

    Several where the library cuts a stored tensor into parts.
    """
    transforms = get_model_conversion_mapping(model)
    renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
    converters = [one for one in transforms if isinstance(one, WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    places = model.state_dict()
    found: dict[str, tuple[str, ...]] = {}
    for name in stored:
        key, pattern = rename_source_key(
            name, renamings, converters, model.base_model_prefix, places
        )
        if key not in places and name in places:
            key, pattern = name, None
        first, *more = by_pattern[pattern].target_patterns if pattern is not None else [key]
        keys = [key, *(key.replace(first, other) for other in more)]
        found[name] = tuple(key for key in keys if key in places)
    return found


def is_ignored(model: Any, name: str) -> bool:
    """True for a stored tensor that the library knows to be of no use."""
    patterns = model._keys_to_ignore_on_load_unexpected or ()  # noqa: SLF001  # not to be had else
    return name.endswith("rotary_emb.inv_freq") or any(re.search(one, name) for one in patterns)


def is_computed(model: nn.Module, name: str) -> bool:
    """True for a weight that the library makes itself (sines and cosines): files may lack it."""
    return hasattr(model.get_submodule(name.rpartition(".")[0]), "create_weight")


def stored_form(model: Any) -> dict[str, Tensor]:
    """A small model's weights under the names, and in the form, in which a checkpoint has them."""
    same = tied(model)
    state = {name: one for name, one in model.state_dict().items() if name not in same}
    return dict(revert_weight_conversion(model, state))


def fill(model: Any, tensors: dict[str, Tensor], dtype: torch.dtype) -> set[str]:
    """Put stored tensors into a skeleton; every other weight becomes a zero that takes no memory.

    Returns the names of the weights that are real. What follows from the config alone (rotary
    frequencies and the like) is computed. Raises CheckpointError when the library cannot convert.
    """
    with _quiet():
        info, _ = convert_and_load_state_dict_in_model(
            model,
            tensors,
            LoadStateDictConfig(
                dtype=dtype,
                dtype_plan=model._get_dtype_plan(dtype),  # noqa: SLF001  # as from_pretrained does
                weight_mapping=cast("Any", get_model_conversion_mapping(model)),
            ),
        )
        model.tie_weights(missing_keys=set(info.missing_keys), recompute_mapping=False)
    wrong = [*info.error_msgs, *map(str, info.conversion_errors), *map(str, info.mismatched_keys)]
    if wrong:
        raise CheckpointError(
            f"the weights do not fit config.json: {wrong[0][:300]}; they do not belong together"
        )
    real = {
        name
        for name, weight in model.named_parameters(remove_duplicate=False)
        if not weight.is_meta
    }
    _fill_absent(model)
    model.initialize_weights()
    for weight in model.parameters():
        weight.requires_grad_(False)
    return real


def _fill_absent(model: nn.Module) -> None:
    for module in model.modules():
        for name, weight in [*module.named_parameters(recurse=False)]:
            if weight.is_meta and is_computed(module, name):
                made = torch.empty_like(weight, device="cpu")
                setattr(module, name, nn.Parameter(made, requires_grad=False))
            elif weight.is_meta:
                nothing = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
                stand_in = nn.Parameter(nothing, requires_grad=False)
                vars(stand_in)[_DRAWN] = True
                setattr(module, name, stand_in)
        for name, buffer in [*module.named_buffers(recurse=False)]:
            if buffer.is_meta:
                setattr(module, name, torch.zeros_like(buffer, device="cpu"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars of the library's while it loads, no word that weights of other spans are missing."""
    talk: Any = transformers.utils.logging
    was_shown, level = talk.is_progress_bar_enabled(), talk.get_verbosity()
    talk.disable_progress_bar()
    talk.set_verbosity_error()
    try:
        yield
    finally:
        talk.set_verbosity(level)
        if was_shown:
            talk.enable_progress_bar()


def version() -> str:
    """The library's version."""
    return str(transformers.__version__)
