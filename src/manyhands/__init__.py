"""Manyhands: run large models on the devices you already own, together.

    import manyhands as mh
    model = mh.load("path/to/model", peers=3)
    print(model.generate("Once upon a time", max_tokens=60))

Names are resolved on first use, so that importing a word does not load the whole house.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manyhands.client import Model, load
    from manyhands.domain.settings import Settings
    from manyhands.errors import ManyhandsError
    from manyhands.spreading import Spread, spread

__version__ = "0.1.0.dev0"
__all__ = ["ManyhandsError", "Model", "Settings", "Spread", "load", "spread"]

_HOMES = {
    "load": "manyhands.client",
    "Model": "manyhands.client",
    "Settings": "manyhands.domain.settings",
    "ManyhandsError": "manyhands.errors",
    "spread": "manyhands.spreading",
    "Spread": "manyhands.spreading",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'manyhands' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
