"""ggml by ctypes, as far as `kernels.py` needs it: one product of a quantised matrix and rows."""

from __future__ import annotations

import ctypes as c
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

TYPES = {"F32": 0, "Q4_0": 2, "Q8_0": 8}
BYTES = {"Q4_0": 18 / 32, "Q8_0": 34 / 32}


class _Room(c.Structure):
    _fields_ = (("size", c.c_size_t), ("memory", c.c_void_p), ("no_alloc", c.c_bool))


class Ggml:
    """The libraries of a folder; the first libggml-cpu-NAME of `names` that loads is used."""

    def __init__(
        self, folder: str, names: tuple[str, ...] = ("zen4", "icelake", "haswell")
    ) -> None:
        place = Path(folder)
        self._base = c.CDLL(str(place / "libggml-base.so"), mode=c.RTLD_GLOBAL)
        self._cpu = c.CDLL(str(place / f"libggml-cpu-{names[0]}.so"))
        pointers = ("ggml_init", "ggml_new_tensor_2d", "ggml_mul_mat", "ggml_new_graph")
        for name in (*pointers, "ggml_get_data"):
            getattr(self._base, name).restype = c.c_void_p
        self._base.ggml_init.argtypes = [_Room]
        self._base.ggml_new_tensor_2d.argtypes = [c.c_void_p, c.c_int, c.c_int64, c.c_int64]
        self._base.ggml_mul_mat.argtypes = [c.c_void_p] * 3
        self._base.ggml_new_graph.argtypes = self._base.ggml_get_data.argtypes = [c.c_void_p]
        self._base.ggml_build_forward_expand.argtypes = [c.c_void_p] * 2
        self._base.ggml_free.argtypes = [c.c_void_p]
        self._base.ggml_quantize_chunk.argtypes = [
            c.c_int, c.c_void_p, c.c_void_p, c.c_int64, c.c_int64, c.c_int64, c.c_void_p
        ]  # fmt: skip
        self._cpu.ggml_graph_compute_with_ctx.argtypes = [c.c_void_p, c.c_void_p, c.c_int]
        self._cpu.ggml_cpu_init()

    def product(
        self, weight: np.ndarray, kind: str, threads: int
    ) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
        """Rows -> their products with `weight` held as `kind`; and the bytes of a weight."""
        outs, into = weight.shape
        base = self._base
        size = int(weight.size * BYTES[kind]) + 2**20
        held = base.ggml_init(_Room(size, None, False))
        matrix = base.ggml_new_tensor_2d(held, TYPES[kind], into, outs)
        base.ggml_quantize_chunk(
            TYPES[kind], weight.ctypes.data, base.ggml_get_data(matrix), 0, outs, into, None
        )
        made: dict[int, tuple[int, int, np.ndarray, np.ndarray]] = {}

        def prepare(count: int) -> tuple[int, int, np.ndarray, np.ndarray]:
            room = 4 * count * (outs + 3 * into) + 2**23
            context = base.ggml_init(_Room(room, None, False))
            given = base.ggml_new_tensor_2d(context, TYPES["F32"], into, count)
            out = base.ggml_mul_mat(context, matrix, given)
            graph = base.ggml_new_graph(context)
            base.ggml_build_forward_expand(graph, out)
            return context, graph, _array(base, given, count, into), _array(base, out, count, outs)

        def product(rows: np.ndarray) -> np.ndarray:
            count = rows.shape[0]
            if count not in made:
                for context, *_ in made.values():
                    base.ggml_free(context)
                made.clear()
                made[count] = prepare(count)
            context, graph, given, out = made[count]
            given[...] = rows
            self._cpu.ggml_graph_compute_with_ctx(context, graph, threads)
            return out.copy()

        return product, BYTES[kind]


def _array(base: c.CDLL, tensor: int, rows: int, width: int) -> np.ndarray:
    address = base.ggml_get_data(tensor)
    return np.ctypeslib.as_array((c.c_float * (rows * width)).from_address(address)).reshape(
        rows, width
    )


if __name__ == "__main__":
    sys.exit("run benchmarks/kernels.py --ggml FOLDER")
