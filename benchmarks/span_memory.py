"""Memory of a peer: how far loading a third of a model's blocks, and filling its memory, grows RSS.

    python benchmarks/span_memory.py [--kv-mb 96] [--small]

Each case runs in a child process of its own: torch in float32, bfloat16, and numpy, which keeps
float32 whatever the file holds. Growth (now and at its peak) is compared with what must be there:
the span's weights in the engine's dtype, plus the whole key/value budget. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

CASES = (("torch", "fp32", "fp32"), ("torch", "bf16", "bf16"), ("numpy", "fp32", "fp32"),
         ("numpy", "fp32", "bf16"))  # fmt: skip
"""Engine, dtype it computes in, dtype of the file."""


def memory_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(folder: str, engine_name: str, dtype: str, kv_bytes: int) -> dict[str, int]:
    """In the child: load a third of the blocks, fill the key/value memory, tell the growth."""
    import numpy as np

    from manyhands.domain.ids import SessionId
    from manyhands.domain.sizes import span_elements, span_kv_elements
    from manyhands.domain.span import Span
    from manyhands.engine import numpy_blocks
    from manyhands.engine.engine import Chunk
    from manyhands.store.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(folder)
    spec = checkpoint.spec
    blocks = len(spec.layers) - 2
    span = Span(1 + blocks // 3, 1 + 2 * blocks // 3)
    element_bytes = 4 if dtype == "fp32" else 2
    tokens = kv_bytes // (span_kv_elements(spec, span) * element_bytes) // 64 * 64
    if engine_name == "torch":
        from manyhands.engine import torch_blocks

        load, options = torch_blocks.load, {"dtype": dtype, "threads": 1}
    else:
        load, options = numpy_blocks.load, {}
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory_bytes("VmRSS")
    engine = load(spec, span, checkpoint.read, kv_bytes=kv_bytes, **options)
    loaded, loaded_peak = memory_bytes("VmRSS") - before, memory_bytes("VmHWM") - before
    hidden = np.ones((64, spec.width), np.float32)
    for first in range(0, tokens, spec.context):
        session, limit = SessionId(f"{first:032x}"), min(spec.context, tokens - first)
        engine.open(session, limit)
        for position in range(0, limit, 64):
            engine.step([Chunk(session, position, (1,) * 64, hidden, ())])
    return {
        "weights": span_elements(spec, span) * element_bytes,
        "loaded": loaded,
        "loaded_peak": loaded_peak,
        "full": memory_bytes("VmRSS") - before,
        "full_peak": memory_bytes("VmHWM") - before,
        "tokens": tokens,
    }


def row(engine: str, dtype: str, stored: str, got: dict[str, int], kv_bytes: int) -> str:
    """One markdown row; MB and ratios to weights (+ key/value budget)."""
    need = got["weights"] + kv_bytes
    mb = {name: value / 1e6 for name, value in got.items()}
    return (
        f"| {engine} {dtype} | {stored} | {mb['weights']:.0f} + {kv_bytes / 1e6:.0f} "
        f"| {mb['loaded']:.0f} | {mb['loaded_peak']:.0f} "
        f"({got['loaded_peak'] / got['weights']:.3f} of the weights) "
        f"| {mb['full']:.0f} | {mb['full_peak']:.0f} | {got['full_peak'] / need:.3f} |"
    )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kv-mb", type=int, default=96)
    parser.add_argument("--small", action="store_true", help="a toy model: tries the script only")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    kv_bytes = chosen.kv_mb * 10**6
    if chosen.child:
        show(json.dumps(measure(*chosen.child, kv_bytes)))
        return
    import torch

    from sides import DTYPES, build, machine

    torch.set_num_threads(1)
    show(
        "| engine | file | weights + KV, MB | after load | peak of load | KV full | peak | ratio |"
    )
    show("|---|---|---|---|---|---|---|---|")
    for engine, dtype, stored in CASES:
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), DTYPES[stored], chosen.small)
            ran = subprocess.run(
                [sys.executable, __file__, "--kv-mb", str(chosen.kv_mb), "--child", folder, engine,
                 dtype],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            show(row(engine, dtype, stored, json.loads(ran.stdout), kv_bytes))
    show(f"\n{machine()}")


if __name__ == "__main__":
    main(sys.argv[1:])
