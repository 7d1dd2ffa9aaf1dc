"""Parameters that are not served: which are refused by name, harmless, or only told as ignored.

A parameter that would change the answer is never dropped in silence. Knows no values but those that
ask for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import quote

from manyhands.api.refusals import RequestRefused

OFF: tuple[Any, ...] = (None, False, 0, "", [], {})
"""Values that ask for nothing."""

HARMLESS = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""They change nothing of an answer: accepted without a word."""

REFUSED: Mapping[str, tuple[Any, ...]] = {
    "add_generation_prompt": (None, True),
    "allowed_token_ids": OFF,
    "audio": OFF,
    "bad_words": OFF,
    "chat_template": OFF,
    "chat_template_kwargs": OFF,
    "continue_final_message": OFF,
    "dry_multiplier": OFF,
    "dynatemp_range": OFF,
    "enable_thinking": OFF,
    "function_call": (*OFF, "none", "auto"),
    "functions": OFF,
    "grammar": OFF,
    "guided_choice": OFF,
    "guided_grammar": OFF,
    "guided_json": OFF,
    "guided_regex": OFF,
    "ignore_eos": OFF,
    "include_stop_str_in_output": OFF,
    "json_schema": OFF,
    "length_penalty": (*OFF, 1),
    "logits_processors": OFF,
    "min_tokens": OFF,
    "mirostat": OFF,
    "modalities": (*OFF, ["text"]),
    "moderation": OFF,
    "options": OFF,
    "prompt_logprobs": OFF,
    "reasoning": OFF,
    "reasoning_effort": (*OFF, "none"),
    "repeat_penalty": (*OFF, 1),
    "response_format": (*OFF, {"type": "text"}),
    "skip_special_tokens": (None, True),
    "stop_token_ids": OFF,
    "structured_outputs": OFF,
    "suffix": OFF,
    "tfs_z": (*OFF, 1),
    "tool_choice": (*OFF, "none", "auto"),
    "tools": OFF,
    "truncate_prompt_tokens": OFF,
    "typical_p": (*OFF, 1),
    "use_beam_search": OFF,
    "verbosity": (*OFF, "medium"),
    "web_search_options": (None,),
    "xtc_probability": OFF,
}
"""Name -> values that ask for nothing. Any other value would change the answer."""

INSTEAD = {
    "repeat_penalty": "use repetition_penalty",
    "response_format": 'only {"type": "text"} is served; say in the prompt which form you want',
    "json_schema": "say in the prompt which form you want",
    "suffix": "leave it out; only text that follows a prompt can be made",
    "tools": "leave them out; this version calls no tools",
    "functions": "leave them out; this version calls no functions",
    "options": "give temperature, top_p and the like at the top level",
    "stop_token_ids": "use stop with their texts",
}

MOST_NAMED = 16


def ignored(extra: Mapping[str, Any] | None) -> str:
    """Names of unknown parameters, for the header `x-manyhands-ignored`; "" when there are none.

    Raises RequestRefused for one that would change the answer.
    """
    unknown = []
    for name, value in (extra or {}).items():
        if name in REFUSED:
            if value not in REFUSED[name]:
                refuse(name)
        elif name not in HARMLESS and value is not None:
            unknown.append(quote(name[:64], safe="", errors="replace"))
    return ", ".join(unknown[:MOST_NAMED])


def refuse(name: str, hint: str = "") -> NoReturn:
    """Raise the refusal of one parameter by its name."""
    told = hint or INSTEAD.get(name, "leave it out")
    raise RequestRefused(
        400,
        f"{name} is not served here, and dropping it would change the answer; {told}",
        name,
        "unsupported_parameter",
    )
