"""A model folder's tokenizer: text to token ids and back, and chats to token ids.

`tokenizer.json` alone says how text is cut; `tokenizer_config.json` names the special tokens and
holds the chat template. Knows nothing of models, sessions or clocks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import tokenizers

from manyhands.errors import CheckpointError, UserError
from manyhands.store.chat_template import MOST_TEMPLATE_CHARACTERS, ChatTemplate
from manyhands.store.json_file import read_object, read_text
from manyhands.store.text_stream import TextStream
from manyhands.store.weight_files import model_folder

MOST_TOKENIZER_BYTES = 256 * 2**20
"""The largest known tokenizer.json (256k tokens and their merges) are near 35 MB."""


class Tokenizer:
    """Text <-> token ids of one model."""

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        template: ChatTemplate | None,
        special_texts: Mapping[str, str],
    ) -> None:
        inner.no_truncation()  # what training left in the file must not cut a prompt
        inner.no_padding()
        self._inner = inner
        self._template = template
        self._special_texts = special_texts
        added = inner.get_added_tokens_decoder()
        self._special_ids = frozenset(i for i, token in added.items() if token.special)

    @classmethod
    def open(cls, folder: Path | str) -> Tokenizer:
        """Read `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` where there are.

        Raises CheckpointError: no folder, no tokenizer.json, a damaged file or a git-lfs pointer, a
        template that does not compile.
        """
        folder = model_folder(folder)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing; make it where the model came from, with transformers: "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        text = read_text(file, MOST_TOKENIZER_BYTES)
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{file} is no tokenizer: {error}; download it again") from error
        settings_file = folder / "tokenizer_config.json"
        settings = read_object(settings_file) if settings_file.exists() else {}
        source = _template_source(folder, settings)
        template = None if source is None else ChatTemplate(source)
        return cls(inner, template, _special_texts(settings))

    @property
    def size(self) -> int:
        """Number of tokens, added ones counted."""
        return self._inner.get_vocab_size(with_added_tokens=True)

    @functools.cached_property
    def longest_token(self) -> int:
        """Characters of the longest token as the file writes it; of text it covers no more."""
        return max(map(len, self._inner.get_vocab(with_added_tokens=True)), default=0)

    @property
    def has_chat_template(self) -> bool:
        """True when `render` can be used."""
        return self._template is not None

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens: those `decode` leaves out."""
        return self._special_ids

    def token_id(self, token: str) -> int | None:
        """The id of exactly this token, or None."""
        return self._inner.token_to_id(token)

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        """Token ids; `add_special` adds the tokens that the file's post-processor puts around."""
        try:
            # a batch of one lets other threads run meanwhile, which `encode` does not
            (encoded,) = self._inner.encode_batch_fast([text], add_special_tokens=add_special)
        except (TypeError, UnicodeEncodeError) as error:
            raise UserError(f"text must be a string of whole characters: {error}") from error
        return list(encoded.ids)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of these tokens, as they were cut: no spaces are cleaned up.

        Ids that no token has are left out; half a character becomes U+FFFD.
        Raises UserError for what is no token id.
        """
        try:
            return self._inner.decode(list(ids), skip_special_tokens=skip_special)
        except (TypeError, OverflowError) as error:
            raise UserError(f"token ids must be whole numbers of 0 or more: {error}") from error

    def stream(self) -> TextStream:
        """A new incremental `decode`, special tokens left out."""

        def token_of(token_id: int) -> str | None:
            is_shown = 0 <= token_id < 2**32 and token_id not in self._special_ids
            return self._inner.id_to_token(token_id) if is_shown else None

        return TextStream(self.decode, token_of)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        now: datetime | None = None,
    ) -> list[int]:
        """The chat's token ids by the model's template; special tokens are the template's business.

        A special token's name inside a message counts as that token, as in transformers.
        Raises UserError: no template, messages it refuses, a date needed and no `now` given.
        """
        text = self.render_text(messages, add_generation_prompt, now)
        return self.encode(text, add_special=False)

    def render_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        now: datetime | None = None,
    ) -> str:
        """The chat as the text that `render` encodes. Raises UserError as `render`."""
        if self._template is None:
            raise UserError("this model has no chat template; give it plain text instead")
        return self._template.render(
            messages, add_generation_prompt=add_generation_prompt, now=now, **self._special_texts
        )


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The file chat_template.jinja goes before tokenizer_config.json; of several, "default"."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return read_text(file, 4 * MOST_TEMPLATE_CHARACTERS)
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = [entry for entry in found if isinstance(entry, Mapping)]
        found = next((e.get("template") for e in named if e.get("name") == "default"), None)
    if found is not None and not isinstance(found, str):
        raise CheckpointError(f"{folder / 'tokenizer_config.json'}: chat_template is no template")
    return found


def _special_texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and the like, for the template; each is a string or {"content": string}."""
    texts = {}
    for name, value in settings.items():
        content = value.get("content") if isinstance(value, Mapping) else value
        if name.endswith("_token") and isinstance(content, str):
            texts[name] = content
    return texts
