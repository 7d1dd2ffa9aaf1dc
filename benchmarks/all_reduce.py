"""What the sum of one row over two processes costs: torch.distributed's gloo beside our own link.

    python benchmarks/all_reduce.py [--rounds 5] [--sums 500] [--widths 2048 8192]

A matrix cut over two devices needs such a sum twice a block: both hold a row of float32 and both
need the sum. gloo: `all_reduce` over loopback, unencrypted. Ours: both send their row as a frame
over TCP with mutual TLS, and add what comes. The two take turns within one run, one thread each.
Then, by the formula of plan/tensor_split, what a token would cost with every matrix cut over two
devices and on one of them, on links of 1 and 2 ms there and back and 1 Gbit/s. Prints two markdown
tables.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist

from manyhands.cli.known_models import KNOWN_MODELS
from manyhands.domain.device import Device
from manyhands.domain.model_spec import ModelSpec
from manyhands.families.family import model_spec
from manyhands.net.tcp import TcpTransport
from manyhands.net.transport import Connection
from manyhands.plan.cost import Cost, span_s
from manyhands.plan.tensor_split import summed_s, together
from manyhands.wire.frame import Frame, Kind
from recovery import machine
from tcp_hop import ANSWERER, DIALLER, membership

WARM_UP = 100

ROUND_TRIPS_S, LAN_BYTES_PER_S = (1e-3, 2e-3), 125e6
"""Of home networks by cable, and their rate."""

DEVICES = {
    "CPU of 25 GB/s": Device("cpu", 0, 25e9, 400e9, 5e-5),
    "GPU of 400 GB/s": Device("gpu", 0, 400e9, 40e12, 1e-5),
}
SMALL = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


async def our_sums_s(connection: Connection, width: int, count: int) -> list[float]:
    """Seconds of each of `count` sums, in step with the other side."""
    row, times = np.ones(width, np.float32), []
    for _ in range(count):
        began = time.perf_counter()
        connection.send(Frame(Kind.STEP, b"", (row.tobytes(),)))
        frame = await connection.receive()
        _ = row + np.frombuffer(b"".join(frame.payload), np.float32)
        times.append(time.perf_counter() - began)
    return times


def gloo_sums_s(width: int, count: int) -> list[float]:
    row, times = torch.ones(width), []
    for _ in range(count):
        began = time.perf_counter()
        dist.all_reduce(row)
        times.append(time.perf_counter() - began)
        row.fill_(1.0)
    return times


async def both(
    connection: Connection, chosen: argparse.Namespace
) -> dict[tuple[str, int], list[float]]:
    """The same row of sums at either side."""
    times: dict[tuple[str, int], list[float]] = {}
    for number in range(chosen.rounds + 1):
        for width in chosen.widths:
            count = chosen.sums if number else WARM_UP
            ours = await our_sums_s(connection, width, count)
            gloo = gloo_sums_s(width, count)
            if number:
                times.setdefault(("ours", width), []).extend(ours)
                times.setdefault(("gloo", width), []).extend(gloo)
    return times


def begin(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)


async def other(chosen: argparse.Namespace) -> None:
    """The second process: listens, says where, takes part."""
    transport, arrived = TcpTransport(membership(ANSWERER)), asyncio.Queue[Connection]()
    address = await transport.listen(arrived.put_nowait)
    print(json.dumps(address), flush=True)
    connection = await arrived.get()
    begin(1, chosen.port)
    await both(connection, chosen)
    dist.destroy_process_group()
    await transport.close()


async def measure(chosen: argparse.Namespace) -> dict[tuple[str, int], list[float]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--rounds", chosen.rounds, "--sums", chosen.sums, "--widths", *chosen.widths]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--port", str(port), *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
    )
    address = json.loads(await child.stdout.readline())
    transport = TcpTransport(membership(DIALLER))
    connection = await transport.dial(address, ANSWERER.peer)
    begin(0, port)
    times = await both(connection, chosen)
    dist.destroy_process_group()
    await transport.close()
    await child.wait()
    return times


def models() -> dict[str, ModelSpec]:
    """The benchmarks' own of 443M, and two well-known ones."""
    named = {model.name: model.spec() for model in KNOWN_MODELS}
    return {
        "443M": model_spec(SMALL),
        "8B": named["Llama-3.1-8B"],
        "70B": named["Llama-3.3-70B"],
    }


def would_be() -> list[str]:
    """Rows: what the formula says of two devices, in bf16 and with 2,048 tokens in memory."""
    rows, cost = [], Cost(context=2048, bytes_per_kv=2.0)
    for name, spec in models().items():
        row_s = spec.width * cost.bytes_per_hidden / LAN_BYTES_PER_S
        for kind, device in DEVICES.items():
            one_s = span_s(spec, spec.span, device, cost)
            two_s = span_s(spec, spec.span, together([device, device]), cost)
            sums_s = [summed_s(spec, 2, trip_s / 2 + row_s) for trip_s in ROUND_TRIPS_S]
            told = " | ".join(f"{s * 1e3:.0f} | {one_s / (two_s + s):.2f}" for s in sums_s)
            rows.append(
                f"| {name} | {kind} | {one_s * 1e3:.1f} | {(one_s - two_s) * 1e3:.1f} | {told} |"
            )
    return rows


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sums", type=int, default=500)
    parser.add_argument("--widths", type=int, nargs="+", default=[1024, 4096, 8192])
    parser.add_argument("--small", action="store_true", help="nothing is smaller: tries the script")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.port:
        asyncio.run(other(chosen))
        return
    times = asyncio.run(measure(chosen))
    show(
        "| numbers in a row | gloo, µs p50 (p90) | our link | ours : gloo | sums | machine |\n|"
        + "---|" * 6
    )
    for width in chosen.widths:
        told = {}
        for name in ("gloo", "ours"):
            parts = statistics.quantiles(times[name, width], n=10)
            told[name] = parts[4] * 1e6, parts[8] * 1e6
        show(
            f"| {width} | {told['gloo'][0]:.0f} ({told['gloo'][1]:.0f}) "
            f"| {told['ours'][0]:.0f} ({told['ours'][1]:.0f}) "
            f"| {told['ours'][0] / told['gloo'][0]:.2f} | {len(times['ours', width])} each "
            f"| {machine()}, torch {torch.__version__} |"
        )
    show(
        "\n| model, bf16 | each of two devices | one alone, ms a token | two would save "
        "| sums, round trip 1 ms | times as quick | 2 ms | times as quick |\n|" + "---|" * 8
    )
    for row in would_be():
        show(row)


if __name__ == "__main__":
    main(sys.argv[1:])
