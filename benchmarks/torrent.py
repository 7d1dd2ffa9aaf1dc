"""libtorrent beside which pieces were decided: one file from one process to another on loopback.

    python -m venv ENV; ENV/bin/pip install libtorrent; ENV/bin/python benchmarks/torrent.py

No dependency of the project (see docs/decisions/0014). Plain TCP, no encryption; hashes of version
2 (SHA-256). Prints the rates of some rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import libtorrent

QUIET = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "out_enc_policy": 2,
    "in_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "alert_mask": 0,
}


def session(port: int) -> libtorrent.session:
    return libtorrent.session({**QUIET, "listen_interfaces": f"127.0.0.1:{port}"})


def added(made: libtorrent.session, torrent: Path, folder: Path, *, seeds: bool):
    wanted = libtorrent.add_torrent_params()
    wanted.ti, wanted.save_path = libtorrent.torrent_info(str(torrent)), str(folder)
    if seeds:
        wanted.flags |= libtorrent.torrent_flags.seed_mode
    return made.add_torrent(wanted)


def torrent_of(file: Path) -> Path:
    files = libtorrent.file_storage()
    libtorrent.add_files(files, str(file))
    made = libtorrent.create_torrent(files, 1 << 20, libtorrent.create_torrent.v2_only)
    libtorrent.set_piece_hashes(made, str(file.parent))
    path = file.with_suffix(".torrent")
    path.write_bytes(libtorrent.bencode(made.generate()))
    return path


def seed(torrent: Path, port: int) -> None:
    made = session(port)
    handle = added(made, torrent, torrent.parent, seeds=True)
    print("ready", handle.status().state, flush=True)
    sys.stdin.read()


def fetch_bytes_per_s(torrent: Path, folder: Path, port: int, size: int) -> float:
    made = session(0)
    handle = added(made, torrent, folder, seeds=False)
    began = time.perf_counter()
    handle.connect_peer(("127.0.0.1", port))
    while not handle.status().is_seeding:
        if time.perf_counter() - began > 60:
            raise TimeoutError(f"stuck: {handle.status().progress:.2f} of the file came")
        time.sleep(0.002)
    return size / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=194)
    parser.add_argument("--port", type=int, default=16881)
    parser.add_argument("--folder", type=Path, help="where to write; else a temporary folder")
    parser.add_argument("--seed", type=Path, help="be the other process")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        seed(arguments.seed, arguments.port)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        file = Path(scratch) / "file.bin"
        size = arguments.megabytes * 10**6
        file.write_bytes(os.urandom(size))
        torrent = torrent_of(file)
        words = [sys.executable, __file__, "--seed", str(torrent), "--port", str(arguments.port)]
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        rates = []
        for number in range(arguments.rounds):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            rates.append(fetch_bytes_per_s(torrent, folder, arguments.port, size) / 1e6)
        child.stdin.close()
        child.wait()
    print(
        f"libtorrent {libtorrent.__version__}: {statistics.median(rates):.0f} MB/s "
        f"({min(rates):.0f} to {max(rates):.0f})"
    )


if __name__ == "__main__":
    main()
