"""The plain forms: float32 as it is, float16 and bfloat16 rounded to nearest, little-endian.

Knows nothing of frames. No finite number becomes infinite: what is too large becomes the largest
there is, so that one outlier cannot turn a row into NaN further on; infinities and NaN stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_FP16_MOST = 65504.0
_BF16_MOST = 0x7F7F
_BF16_ROUNDS_OVER = 0x7F7F8000  # float32 bits from which rounding to bfloat16 would give infinity


@dataclass(frozen=True, slots=True)
class Float32:
    """Every bit of a float32."""

    name: str = "fp32"
    takes: Literal["numbers", "bits"] = "numbers"
    error: float = 0.0

    def row_bytes(self, width: int) -> int:
        """Four bytes a number."""
        return 4 * width

    def encode(self, rows: NDArray[Any]) -> bytes:
        """See Codec."""
        return rows.astype("<f4", copy=False).tobytes()

    def decode(
        self, payload: bytes | bytearray | memoryview, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """See Codec."""
        return np.frombuffer(payload, "<f4").astype(np.float32).reshape(shape)


@dataclass(frozen=True, slots=True)
class Float16:
    """IEEE half precision: 11 significant bits, at most 65504."""

    name: str = "fp16"
    takes: Literal["numbers", "bits"] = "numbers"
    error: float = 2.0**-11

    def row_bytes(self, width: int) -> int:
        """Two bytes a number."""
        return 2 * width

    def encode(self, rows: NDArray[Any]) -> bytes:
        """See Codec."""
        with np.errstate(over="ignore"):
            halves = rows.astype("<f2")
        over = np.isinf(halves)
        if over.any():
            over &= np.isfinite(rows)
            halves[over] = np.copysign(np.float16(_FP16_MOST), halves[over])
        return halves.tobytes()

    def decode(
        self, payload: bytes | bytearray | memoryview, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """See Codec."""
        return np.frombuffer(payload, "<f2").astype(np.float32).reshape(shape)


@dataclass(frozen=True, slots=True)
class BFloat16:
    """The upper half of a float32: its range, 8 significant bits; ties to even."""

    name: str = "bf16"
    takes: Literal["numbers", "bits"] = "numbers"
    error: float = 2.0**-8

    def row_bytes(self, width: int) -> int:
        """Two bytes a number."""
        return 2 * width

    def encode(self, rows: NDArray[Any]) -> bytes:
        """See Codec."""
        bits = rows.astype(np.float32, copy=False).view(np.uint32)
        halves = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
        edge = (bits & 0x7FFFFFFF) >= _BF16_ROUNDS_OVER
        if edge.any():
            upper = (bits[edge] >> 16).astype(np.uint16)
            finite, nan = np.isfinite(rows[edge]), np.isnan(rows[edge])
            upper[finite] = (upper[finite] & 0x8000) | _BF16_MOST
            upper[nan] |= 0x40  # else a NaN whose bits are all in the lower half becomes infinite
            halves[edge] = upper
        return halves.tobytes()

    def decode(
        self, payload: bytes | bytearray | memoryview, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """See Codec."""
        bits = np.frombuffer(payload, "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)


CODECS = (Float32(), Float16(), BFloat16())
