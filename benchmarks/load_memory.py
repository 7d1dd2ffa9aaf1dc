"""Load time and memory of one fresh process that holds a model and says something.

    python benchmarks/load_memory.py FOLDER FORM ours|sdpa

Prints JSON: seconds to load, and to load and take a prompt in (some files are read at first use
only); what the process takes, at its peak too, in bytes. Only what a
side needs is imported. Linux only (/proc). `bench.py` asks, with a process each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from span_memory import memory_bytes

PROMPT, THREADS = 64, 1


def ours(folder: Path, form: str) -> tuple[Callable[[], object], Callable[[object], object]]:
    """Two works: load the model, and take a prompt in."""
    from manyhands.domain.ids import SessionId
    from manyhands.engine import torch_blocks
    from manyhands.engine.engine import Chunk
    from manyhands.store.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(folder)
    options = {} if form.startswith("int") else {"dtype": form}

    def load() -> object:
        spec = checkpoint.spec
        return torch_blocks.load(
            spec, spec.span, checkpoint.read, kv_bytes=2**26, threads=THREADS, **options
        )

    def read(engine: torch_blocks.Engine) -> None:
        engine.open(SessionId("0" * 32), PROMPT)
        engine.step([Chunk(SessionId("0" * 32), 0, (3,) * PROMPT, None, (PROMPT - 1,))])

    return load, read


def theirs(folder: Path, form: str) -> tuple[Callable[[], object], Callable[[object], object]]:
    """The same of transformers."""
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    transformers.utils.logging.disable_progress_bar()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[form]
    made_by = transformers.LlamaForCausalLM  # imported here, as ours is above

    def load() -> object:
        return made_by.from_pretrained(folder, dtype=dtype).eval()

    def read(model: transformers.PreTrainedModel) -> None:
        with torch.inference_mode():
            model(torch.full((1, PROMPT), 3), logits_to_keep=1)

    return load, read


def main(arguments: list[str]) -> None:
    folder, form, side = arguments
    load, read = (ours if side == "ours" else theirs)(Path(folder), form)
    before, start = memory_bytes("VmRSS"), time.perf_counter()
    model = load()
    took_s = time.perf_counter() - start
    loaded = memory_bytes("VmRSS")
    read(model)
    told = {
        "load_s": took_s,
        "first_s": time.perf_counter() - start,
        "before": before,
        "loaded": loaded,
        "peak": memory_bytes("VmHWM"),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
