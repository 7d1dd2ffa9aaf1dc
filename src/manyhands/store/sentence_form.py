"""How a model folder of sentence-transformers makes one vector of a text: its `modules.json`.

Which tokens' vectors are pooled, whether the result has length 1, how many tokens a text may have.
What is not served is refused by its name. Knows nothing of tensors.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from manyhands.domain.model_spec import LayerSpec, ModelSpec
from manyhands.errors import CheckpointError, NotServed
from manyhands.store.json_file import read_object, read_text

MOST_BYTES = 2**20

_POOLED: dict[str, Literal["pool_mean", "pool_first"]] = {"mean": "pool_mean", "cls": "pool_first"}
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The older form of `pooling_mode`."""

_FOLDER = re.compile(r"[\w-][\w.-]{0,63}")


@dataclass(frozen=True, slots=True)
class SentenceForm:
    """`most_tokens` is None where the folder does not say."""

    pool: Literal["pool_mean", "pool_first"]
    is_normalised: bool
    most_tokens: int | None = None


def read_sentence_form(folder: Path) -> SentenceForm | None:
    """What the folder says of texts, or None for one that is not of sentence-transformers.

    Raises CheckpointError for damaged files, NotServed for modules and ways of pooling that are not
    served.
    """
    if not (folder / "modules.json").exists():
        return None
    modules = _modules(folder)
    names = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]):
        raise NotServed(
            f"modules.json asks for {', '.join(names) or 'nothing'}; served are Transformer, "
            "Pooling and then perhaps Normalize"
        )
    limits = folder / "sentence_bert_config.json"
    said = read_object(limits, MOST_BYTES) if limits.exists() else {}
    if said.get("do_lower_case"):
        raise NotServed(f"{limits}: do_lower_case is not served; the tokenizer alone is asked")
    most = said.get("max_seq_length")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise CheckpointError(f"{limits}: max_seq_length is {most!r:.80}; it must be 1 or more")
    _refuse_prompts(folder)
    pooling = read_object(folder / _pooling_file(folder, modules), MOST_BYTES)
    return SentenceForm(_pool(pooling), len(names) == 3, most)


def files_below(folder: Path) -> tuple[Path, ...]:
    """What of sub-folders `read_sentence_form` reads, relative to `folder`."""
    if not (folder / "modules.json").exists():
        return ()
    return (_pooling_file(folder, _modules(folder)),)


def applied(spec: ModelSpec, form: SentenceForm) -> ModelSpec:
    """The model whose head pools, and whose texts are as long, as the folder says."""
    head = spec.layers[-1]
    pooling = LayerSpec(replace(spec.head, kind=form.pool), head.tensors)
    return replace(
        spec,
        context=min(spec.context, form.most_tokens or spec.context),
        layers=(*spec.layers[:-1], pooling),
    )


def _modules(folder: Path) -> list[dict[str, Any]]:
    file = folder / "modules.json"
    try:
        found = json.loads(read_text(file, MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is no JSON ({error}); download it again") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise CheckpointError(f"{file} holds no list of modules; download it again")
    return found


def _pooling_file(folder: Path, modules: list[dict[str, Any]]) -> Path:
    path = modules[1].get("path")
    if not isinstance(path, str) or not _FOLDER.fullmatch(path):
        raise CheckpointError(
            f"{folder / 'modules.json'}: the path {path!r:.80} is no folder's name"
        )
    return Path(path) / "config.json"


def _pool(pooling: dict[str, Any]) -> Literal["pool_mean", "pool_first"]:
    modes = pooling.get("pooling_mode")
    if modes is None:
        modes = [name for switch, name in _SWITCHES.items() if pooling.get(switch)] or ["mean"]
    named = [modes] if isinstance(modes, str) else list(modes) if isinstance(modes, list) else []
    found = _POOLED.get(str(named[0])) if len(named) == 1 else None
    if found is None:
        raise NotServed(f"pooling_mode {modes!r:.80} is not served; {' and '.join(_POOLED)} are")
    return found


def _refuse_prompts(folder: Path) -> None:
    file = folder / "config_sentence_transformers.json"
    named = read_object(file, MOST_BYTES).get("default_prompt_name") if file.exists() else None
    if named is not None:
        raise NotServed(
            f"{file}: default_prompt_name {named!r:.80} is not served; set it to null and write "
            "the prompt before each text"
        )
