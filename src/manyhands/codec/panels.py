"""Integer matrices as kernels read them and files hold them: panels of 16 outputs, block by block.

Of a block of 32 numbers there are 8 groups of 4, and of each group all 16 outputs beside each
other: one load of a vector, one of a row's four numbers, sixteen sums. So a file's bytes are
multiplied where they lie, and processes of one machine share them. Knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from manyhands.codec.weight_blocks import BLOCK, Bits, WeightBlocks, padded

PANEL = 16
"""Outputs beside each other; the kernels and `domain/weight_format` have the same."""

GROUP = 4
"""Numbers of a row that lie beside each other."""

_SHIFT: dict[Bits, int] = {8: 128, 4: 8}
"""Added to every code, so that none is negative."""


@dataclass(frozen=True, slots=True)
class Panels:
    """A matrix [outs, width]: codes uint8 [P, bytes], scales as bits of bfloat16 [P, 16 a block].

    P panels hold its outputs, and zeros behind the last one. Codes have _SHIFT added; of int4 one
    byte has group g of a block in its low half and group g + 4 in its high one.
    """

    bits: Bits
    outs: int
    width: int
    codes: NDArray[np.uint8]
    scales: NDArray[np.uint16]


def panel_bytes(bits: Bits, width: int) -> int:
    """Bytes of one panel's codes."""
    return PANEL * padded(width) * bits // 8


def panel_scales(width: int) -> int:
    """How many scales one panel has."""
    return PANEL * padded(width) // BLOCK


def laid_out(blocks: WeightBlocks) -> Panels:
    """A matrix in panels."""
    outs, wide = blocks.codes.shape
    count, shift = -(-outs // PANEL), np.uint8(_SHIFT[blocks.bits])
    codes = np.full((count * PANEL, wide), shift, np.uint8)
    codes[:outs] = blocks.codes.view(np.uint8) + shift
    grouped = codes.reshape(count, PANEL, wide // BLOCK, BLOCK // GROUP, GROUP)
    grouped = grouped.transpose(0, 2, 3, 1, 4)
    if blocks.bits == 4:
        half = BLOCK // GROUP // 2
        grouped = grouped[:, :, :half] | grouped[:, :, half:] << np.uint8(4)
    scales = np.zeros((count * PANEL, wide // BLOCK), np.uint16)
    scales[:outs] = blocks.scales
    turned = scales.reshape(count, PANEL, -1).transpose(0, 2, 1)
    return Panels(
        blocks.bits,
        outs,
        blocks.width,
        np.ascontiguousarray(grouped).reshape(count, -1),
        np.ascontiguousarray(turned).reshape(count, -1),
    )


def taken_apart(panels: Panels) -> WeightBlocks:
    """The same matrix, row by row."""
    return rows_at(panels, np.arange(panels.outs))


def rows_at(panels: Panels, places: NDArray[np.int64]) -> WeightBlocks:
    """Some of its rows."""
    count, blocks = panels.codes.shape[0], padded(panels.width) // BLOCK
    panel, lane = places // PANEL, places % PANEL
    held = panels.codes.reshape(count, blocks, -1, PANEL, GROUP)[panel, :, :, lane]
    if panels.bits == 4:
        held = np.concatenate([held & np.uint8(15), held >> np.uint8(4)], axis=2)
    codes = (held - np.uint8(_SHIFT[panels.bits])).view(np.int8).reshape(len(places), -1)
    scales = panels.scales.reshape(count, blocks, PANEL)[panel, :, lane]
    return WeightBlocks(panels.bits, panels.width, codes, scales)


def stacked(parts: Sequence[Panels]) -> Panels:
    """Matrices of one width under each other: where they lie so already, without a copy."""
    if len(parts) == 1:
        return parts[0]
    first, outs = parts[0], sum(part.outs for part in parts)
    if any(part.outs % PANEL for part in parts[:-1]):  # a panel would have outputs of two
        apart = [taken_apart(part) for part in parts]
        return laid_out(
            WeightBlocks(
                first.bits,
                first.width,
                np.concatenate([part.codes for part in apart]),
                np.concatenate([part.scales for part in apart]),
            )
        )
    return Panels(
        first.bits,
        outs,
        first.width,
        _together([part.codes for part in parts]),
        _together([part.scales for part in parts]),
    )


def _together(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays [n, same] as one: a view where each lies right behind the one before."""
    ends = [array.ctypes.data + array.nbytes for array in arrays[:-1]]
    starts = [array.ctypes.data for array in arrays[1:]]
    if ends != starts or len({id(_owner(array)) for array in arrays}) > 1:
        return np.concatenate(arrays)
    rows = sum(array.shape[0] for array in arrays)
    return as_strided(arrays[0], (rows, arrays[0].shape[1]), writeable=False)


def _owner(array: NDArray[Any]) -> object:
    """Whose memory an array shows."""
    held: object = array
    while isinstance(held, np.ndarray) and held.base is not None:
        held = held.base
    return held.obj if isinstance(held, memoryview) else held
