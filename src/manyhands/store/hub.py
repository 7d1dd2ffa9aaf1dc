"""The Hugging Face hub: whole models by their name, and single ranges of their files.

All by huggingface_hub, so that HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and a log-in mean what they
always mean. Knows nothing of peers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from manyhands.domain.manifest import ENDINGS
from manyhands.errors import CheckpointError, ResourceError
from manyhands.store.weight_files import is_hub_name

READ_DEADLINE_S = 60.0

_ORIGIN = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})@([0-9a-f]{40})", re.ASCII)
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Hub:
    """`endpoint` and `cache` are huggingface_hub's own where they are not named."""

    endpoint: str | None = None
    cache: Path | None = None

    def folder(self, name: str) -> Path:
        """A model's files as they are at the hub now, downloaded where they are not cached.

        Without a network what is cached. Raises CheckpointError for a name that the hub does not
        know or give, and for one that can neither be had nor is cached; ResourceError: disk.
        """
        # a quarter of a second, for those alone who name a model of the hub
        from httpx2 import HTTPError
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )

        try:
            found = snapshot_download(
                name,
                allow_patterns=[f"*{ending}" for ending in ENDINGS],
                endpoint=self.endpoint,
                cache_dir=self.cache,
            )
        except GatedRepoError as error:
            raise CheckpointError(
                f"{name} is given to those only who accepted its terms; accept them on its page, "
                "then `hf auth login`"
            ) from error
        except RepositoryNotFoundError as error:
            raise CheckpointError(
                f"the hub knows no model {name}, or does not show it to you: check the name, or "
                "`hf auth login` for one of your own"
            ) from error
        except (LocalEntryNotFoundError, HTTPError) as error:
            raise CheckpointError(
                f"{name} cannot be downloaded and is not cached here ({_first_line(error)}); try "
                "again with a network, or give a folder"
            ) from error
        except OSError as error:
            raise ResourceError(f"{name} cannot be downloaded: {_first_line(error)}") from error
        return Path(found)

    def read(self, origin: str, file: str, first: int, last: int) -> bytes:
        """Bytes [first, last) of a file of `origin`, as `origin_of` says it.

        Raises CheckpointError when the hub does not give them.
        """
        from httpx2 import HTTPError  # what huggingface_hub's session raises
        from huggingface_hub import get_session, get_token, hf_hub_url
        from huggingface_hub.errors import OfflineModeIsEnabled

        known = _ORIGIN.fullmatch(origin)
        if known is None:
            raise CheckpointError(f"{origin[:200]!r} is no place at the hub")
        url = hf_hub_url(known[1], file, revision=known[2], endpoint=self.endpoint)
        headers = {"Range": f"bytes={first}-{last - 1}", "Accept-Encoding": "identity"}
        token = get_token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            answer = get_session().get(
                url, headers=headers, timeout=READ_DEADLINE_S, follow_redirects=True
            )
        except (HTTPError, OfflineModeIsEnabled) as error:
            raise CheckpointError(f"{url} cannot be had: {_first_line(error)}") from error
        if answer.status_code not in (200, 206):
            raise CheckpointError(f"{url} cannot be had: HTTP {answer.status_code}")
        data = bytes(answer.content)
        return data if answer.status_code == 206 else data[first:last]


def origin_of(folder: Path) -> str:
    """The model and commit of a folder in huggingface_hub's cache; "" for any other folder."""
    place = folder.absolute()
    known = _CACHED.fullmatch(place.parent.parent.name)
    if known is None or place.parent.name != "snapshots" or not _COMMIT.fullmatch(place.name):
        return ""
    return f"{known[1]}/{known[2]}@{place.name}"


def is_origin(text: str) -> bool:
    """True for a model and commit as `origin_of` says them, and for none."""
    return not text or _ORIGIN.fullmatch(text) is not None


def is_of_hub(name: str) -> bool:
    """True for what is no folder here and may be a model's name at the hub."""
    return is_hub_name(name) and not Path(name).expanduser().exists()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
