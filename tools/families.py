"""Writes docs/families.md: each model family, which engine runs it, by which cases that is checked.

    python tools/families.py        writes the page; a test fails while it is out of date

Rows are found: a file in families/ is a family of the block engines, a case of tests/tiny.py whose
model type has no file is one of the universal path. Needs the development extras.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path

from manyhands import families
from manyhands.families.family import known_families

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "families.md"

REAL_WEIGHTS = {"bert": "all-MiniLM-L6-v2", "llama": "the storyteller"}
"""Families that tests run on trained weights, and whose."""

_HEAD = """\
# Model families

Made by `python tools/families.py` from `src/manyhands/families/` and the cases of `tests/`: do not
edit it.

{count} families. *Blocks* means that the family is data, which `torch_blocks` and `numpy_blocks`
both run; *modules* means the universal path, transformers' own layers in torch only. Each case is a
tiny random checkpoint that transformers writes. `tests/engine/test_parity.py` asks that
transformers, one engine and three engines in a row give the same scores to 1e-4: whole texts,
prefill in chunks, 32 single steps on the memory, memory cut and written again, sessions of
different lengths in one batch; `tests/engine/test_encoder_parity.py` asks it of encoders' vectors
and classes. Cases in *italics* run in `make test-all` only. *Architecture only*
means that no test runs trained weights of that family.

Any other model is refused by name, and so is a switch in a `config.json` that changes what is
computed and is not covered here.

| model type | what it is | engine | checked by | weights |
|---|---|---|---|---|
"""


def page(cases: Mapping[str, str], slow: Collection[str]) -> str:
    """The page's text; `cases` is the model type of each case, `slow` those not run each time."""
    served = known_families()
    checked = set(cases.values())
    names = sorted(checked.union(set(served) - set(map(file_of, checked))))
    rows = (_row(name, file_of(name) in served, cases, slow) for name in names)
    return _HEAD.format(count=len(names)) + "".join(rows)


def file_of(model_type: str) -> str:
    """The name of the file in families/ that serves it, if one does."""
    return model_type.replace("-", "_")


def _row(name: str, is_data: bool, cases: Mapping[str, str], slow: Collection[str]) -> str:
    checked = [case for case, model_type in cases.items() if model_type == name]
    shown = ", ".join(f"*{case}*" if case in slow else case for case in checked)
    what = _what(name) if is_data else ""
    engine = "blocks" if is_data else "modules"
    weights = REAL_WEIGHTS.get(name, "architecture only")
    return f"| `{name}` | {what} | {engine} | {shown} | {weights} |\n"


def _what(name: str) -> str:
    """The first sentence of a family's file, without what goes for all of them."""
    text = import_module(f"{families.__name__}.{file_of(name)}").__doc__ or ""
    first = text.split("\n", maxsplit=1)[0].strip()
    for ending in ("Reads no files.", "No files."):
        first = first.removesuffix(ending).strip()
    return first.rstrip(".")


def known_cases() -> tuple[dict[str, str], frozenset[str]]:
    """The cases of tests/tiny.py by model type, and which of them are slow."""
    sys.path.insert(0, str(ROOT / "tests"))
    tiny = import_module("tiny")
    return {name: case.model_type for name, case in tiny.ALL.items()}, tiny.SLOW


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(*known_cases()), "utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
