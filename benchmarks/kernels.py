"""Matrix products of the 443M model's shapes: every library's kernel beside ours, in one run.

    python benchmarks/kernels.py [--threads 1 2] [--candidates NAME …] [--tries 30] [--ggml FOLDER]

Each candidate runs in a child process, so that one that crashes or is not installed is only a row.
A row sums up the four shapes: GB/s of weights read at one row, beside the bandwidth measured in the
same run, then GOP/s at 8 to 512 rows (the largest shape at 1 and 8 only). Each is the quickest of
several tries, since the machine may be shared; on one thread by the processor's clock, for the same
reason. "invariant" says whether a row's bits are the same alone and beside 7, 31 and 511 others,
"error" is the RMS difference from float32. FOLDER holds llama.cpp's libggml-base, libggml-cpu-….
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from clocks import CLOCKS
from read_memory import Memory

SHAPES = ((1024, 1024), (4096, 1024), (1024, 4096), (32000, 1024))
ROWS = (1, 8, 32, 128, 512)
BEYOND_CACHE = 100_000_000
"""Bytes of copies of a matrix that are gone through in turn, so that none stays in the cache."""

Product = Callable[[np.ndarray], np.ndarray]
"""Rows [N, in] float32 -> [N, out] float32."""


def torch_plain(weight: np.ndarray, threads: int, dtype: str) -> tuple[Product, float]:
    import torch

    from manyhands.engine.torch_linear import make_linear

    torch.set_num_threads(threads)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    linear = make_linear(torch.from_numpy(weight).to(kind), None)
    return lambda rows: linear(torch.from_numpy(rows).to(kind)).float().numpy(), kind.itemsize


def aten_int8(weight: np.ndarray, threads: int) -> tuple[Product, float]:
    import torch

    torch.set_num_threads(threads)
    held = torch.from_numpy(weight)
    scales = held.abs().amax(1) / 127
    codes = (held / scales[:, None]).round().to(torch.int8)
    by = scales.to(torch.bfloat16)

    def product(rows: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(rows).to(torch.bfloat16)
        return torch._weight_int8pack_mm(given, codes, by).float().numpy()  # noqa: SLF001

    return product, 1.0


def aten_int4(weight: np.ndarray, threads: int) -> tuple[Product, float]:
    import torch

    torch.set_num_threads(threads)
    group = 32
    held = torch.from_numpy(weight).reshape(weight.shape[0], -1, group)
    low, high = held.amin(-1), held.amax(-1)
    scale = ((high - low) / 15).clamp(min=1e-9)
    codes = ((held - low[..., None]) / scale[..., None]).round().clamp(0, 15)
    packed = torch._convert_weight_to_int4pack_for_cpu(  # noqa: SLF001
        codes.reshape(weight.shape).to(torch.int32), 1
    )
    zeros = low + 8 * scale
    both = torch.stack([scale, zeros], -1).transpose(0, 1).contiguous().to(torch.bfloat16)

    def product(rows: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(rows).to(torch.bfloat16)
        out = torch._weight_int4pack_mm_for_cpu(given, packed, group, both)  # noqa: SLF001
        return out.float().numpy()

    return product, 0.5 + 4 / group


def onednn_w8a8(weight: np.ndarray, threads: int) -> tuple[Product, float]:
    import torch

    torch.set_num_threads(threads)
    held = torch.from_numpy(weight)
    scales = held.abs().amax(1) / 127
    codes = (held / scales[:, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(codes.t().contiguous(), None)
    zeros = torch.zeros(weight.shape[0], dtype=torch.int64)

    def product(rows: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(rows)
        scale = float(given.abs().max()) / 127
        small = (given / scale).round().to(torch.int8)
        return torch.ops.onednn.qlinear_pointwise(
            small, scale, 0, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        ).numpy()

    return product, 1.0


def torchao_kernel(weight: np.ndarray, threads: int, form: str) -> tuple[Product, float]:
    import torch
    from torchao import quantization

    torch.set_num_threads(threads)
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = torch.nn.Parameter(torch.from_numpy(weight), requires_grad=False)
    model = torch.nn.Sequential(linear).to(torch.bfloat16)
    if form == "w8a8":
        config = quantization.Int8DynamicActivationInt8WeightConfig()
    else:
        config = quantization.Int8WeightOnlyConfig()
    quantization.quantize_(model, config)

    def product(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(rows).to(torch.bfloat16)).float().numpy()

    return product, 1.0


def onnxruntime_nbits(weight: np.ndarray, threads: int, bits: int) -> tuple[Product, float]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from manyhands.codec.weight_blocks import quantise, widened

    blocks = quantise(weight, 8 if bits == 8 else 4)
    outs, into = weight.shape
    codes = blocks.codes.view(np.uint8) + np.uint8(128 if bits == 8 else 8)
    if bits == 4:
        codes = codes[:, 0::2] | codes[:, 1::2] << np.uint8(4)
    held = [
        numpy_helper.from_array(codes.reshape(outs, into // 32, -1), "B"),
        numpy_helper.from_array(widened(blocks.scales).reshape(-1), "S"),
    ]
    node = helper.make_node(
        "MatMulNBits", ["A", "B", "S"], ["Y"], domain="com.microsoft", K=into, N=outs, bits=bits,
        block_size=32, accuracy_level=4,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("A", TensorProto.FLOAT, ["M", into])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["M", outs])], held,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda rows: session.run(None, {"A": rows})[0], bits / 8 + 4 / 32


def ggml(weight: np.ndarray, threads: int, kind: str) -> tuple[Product, float]:
    from ggml_library import Ggml

    return Ggml(os.environ["GGML_FOLDER"]).product(weight, kind, threads)


def ours(weight: np.ndarray, threads: int, bits: int, library: str) -> tuple[Product, float]:
    from manyhands.codec.weight_blocks import quantise
    from manyhands.engine.block_weights import product_of
    from manyhands.engine.compiled import new_crew

    crew = None if library == "numpy" else new_crew(threads)
    if crew is None and library == "numba":
        raise ImportError("numba")
    product = product_of(quantise(weight, 8 if bits == 8 else 4), crew)
    return product, product.bytes_held / weight.size


CANDIDATES: dict[str, Callable[[np.ndarray, int], tuple[Product, float]]] = {
    "torch fp32": lambda w, t: torch_plain(w, t, "fp32"),
    "torch bf16 (oneDNN, packed)": lambda w, t: torch_plain(w, t, "bf16"),
    "aten _weight_int8pack_mm": aten_int8,
    "aten _weight_int4pack_mm_for_cpu": aten_int4,
    "onednn.qlinear (W8A8, a scale a tensor)": onednn_w8a8,
    "torchao W8A8 dynamic": lambda w, t: torchao_kernel(w, t, "w8a8"),
    "torchao int8 weight-only": lambda w, t: torchao_kernel(w, t, "int8"),
    "onnxruntime MatMulNBits 8": lambda w, t: onnxruntime_nbits(w, t, 8),
    "onnxruntime MatMulNBits 4": lambda w, t: onnxruntime_nbits(w, t, 4),
    "ggml Q8_0": lambda w, t: ggml(w, t, "Q8_0"),
    "ggml Q4_0": lambda w, t: ggml(w, t, "Q4_0"),
    "ours int8 (numba)": lambda w, t: ours(w, t, 8, "numba"),
    "ours int4 (numba)": lambda w, t: ours(w, t, 4, "numba"),
    "ours int8 (numpy)": lambda w, t: ours(w, t, 8, "numpy"),
}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + shape[-1]).standard_normal(shape, np.float32)  # noqa: TID251


def quickest_s(work: Callable[[], object], tries: int, threads: int) -> float:
    clock = CLOCKS["cpu" if threads == 1 else "wall"]
    times = []
    for _ in range(tries):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def figures(name: str, threads: int, tries: int) -> dict[str, Any]:
    """What one candidate reaches: seconds and operations by rows, and what its numbers are."""
    seconds, operations = dict.fromkeys(ROWS, 0.0), dict.fromkeys(ROWS, 0.0)
    weight_bytes, is_invariant, error = 0.0, True, 0.0
    for outs, into in SHAPES:
        weight, rows = normal(outs, into) / 32, normal(ROWS[-1], into)
        first, of_one = CANDIDATES[name](weight, threads)
        size = of_one * weight.size
        count = min(12, max(1, round(BEYOND_CACHE / size)))
        copies = [first, *(CANDIDATES[name](weight, threads)[0] for _ in range(count - 1))]
        weight_bytes += size
        for number in ROWS[:2] if outs == SHAPES[-1][0] else ROWS:
            given = rows[:number].copy()
            turns = iter(range(10**9))
            best = quickest_s(
                lambda: copies[next(turns) % count](given),  # noqa: B023
                max(count + 2, tries) if number < 32 else max(3, tries // 3),
                threads,
            )
            seconds[number] += best
            operations[number] += 2.0 * number * weight.size
        alone, exact = first(rows[:1].copy()), rows[:8] @ weight.T
        for number in (8, 32, 512) if outs != SHAPES[-1][0] else ():
            is_invariant &= bool(np.array_equal(first(rows[:number].copy())[:1], alone))
        lost = first(rows[:8].copy()) - exact
        error = max(error, float(np.sqrt(np.square(lost).mean() / np.square(exact).mean())))
    return {
        "gigabytes_per_s": weight_bytes / seconds[1] / 1e9,
        "bytes_per_weight": weight_bytes / sum(o * i for o, i in SHAPES),
        "gops": {str(n): operations[n] / seconds[n] / 1e9 for n in ROWS},
        "invariant": is_invariant,
        "error": error,
    }


def row(name: str, threads: int, tries: int, read: float) -> str:
    words = [sys.executable, __file__, "--child", name, "--threads", str(threads)]
    one_pool = {key: str(threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [*words, "--tries", str(tries)], capture_output=True, text=True,
        env={**os.environ, **one_pool}, check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return f"| {name} | {threads} | does not run here: {said[:90]} |"
    told = json.loads(done.stdout.splitlines()[-1])
    gops = " | ".join(f"{told['gops'][str(n)]:.0f}" for n in ROWS[1:])
    rate = told["gigabytes_per_s"]
    return (
        f"| {name} | {threads} | {told['bytes_per_weight']:.2f} | {rate:.1f} ({rate / read:.2f}) "
        f"| {gops} | {'yes' if told['invariant'] else 'no'} | {told['error']:.4f} |"
    )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES))
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--ggml", default="", help="a folder with llama.cpp's ggml libraries")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        show(json.dumps(figures(chosen.child, chosen.threads[0], chosen.tries)))
        return
    os.environ["GGML_FOLDER"] = chosen.ggml
    show(
        "| kernel | threads | bytes a weight | GB/s at 1 row (of read bandwidth) "
        "| GOP/s 8 rows | 32 | 128 | 512 | invariant | error |"
    )
    show("|---|---|---|---|---|---|---|---|---|---|")
    for threads in chosen.threads:
        read = Memory(threads).bytes_per_s(CLOCKS["cpu" if threads == 1 else "wall"]) / 1e9
        show(f"| (reading memory) | {threads} | | {read:.1f} (1.00) | | | | | | |")
        for name in chosen.candidates:
            show(row(name, threads, chosen.tries, read))


if __name__ == "__main__":
    main(sys.argv[1:])
