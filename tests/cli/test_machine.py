"""What this machine could run: a table that fits a terminal, and the same as plain data."""

import io
import json

import pytest
from rich.console import Console

from manyhands.cli.known_models import KNOWN_MODELS
from manyhands.cli.machine import as_data, machine_report, show
from manyhands.domain.device import Device
from manyhands.engine.measure import Measured


def measured(
    memory: int = 16 * 10**9, engine: str = "torch", note: str = "", busy: float = 0.0
) -> Measured:
    dtype, number = ("bf16", 2.0) if engine == "torch" else ("fp32", 4.0)
    device = Device("cpu", memory, 28e9, 310e9, 1e-4)
    return Measured(device, engine, dtype, None, number, number, took_s=3.0, busy=busy, note=note)


def printed(of: Measured, width: int = 80) -> str:
    told = io.StringIO()
    show(machine_report(of), Console(file=told, width=width))
    return told.getvalue()


@pytest.mark.parametrize("memory", [10**9, 16 * 10**9, 10**12])
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_the_table_names_every_model_within_80_columns(memory, engine):
    said = printed(measured(memory, engine))
    assert max(map(len, said.splitlines())) <= 80
    assert "…" not in said
    for model in KNOWN_MODELS:
        assert model.name in said


def test_it_says_what_was_measured_and_that_the_rest_is_predicted():
    said = printed(measured())
    assert "28.0 GB/s, 310 GFLOP/s, 16.0 GB memory free" in said
    assert "16-bit weights (bf16) with torch" in said
    assert "predicted" in said
    assert "Predictions" in said


def test_models_fit_alone_or_with_one_more_or_not_at_all():
    rows = {line.split()[0]: line for line in printed(measured()).splitlines() if line}
    assert rows["Llama-3.2-3B"].count("tok/s") == 2
    assert "does not fit" in rows["Mistral-7B-v0.3"]
    assert "split in two" in rows["Mistral-7B-v0.3"]
    assert "no: 10 like it, at least" in rows["Llama-3.3-70B"]


def test_numpy_counts_32_bits_and_says_that_torch_may_need_half():
    assert "32-bit weights (fp32) with numpy" in printed(measured(engine="numpy"))
    assert "with torch" in printed(measured(engine="numpy")).split("numpy computes")[1]
    assert "numpy computes" not in printed(measured(engine="torch"))
    two, four = (machine_report(measured(engine=name)).models for name in ("torch", "numpy"))
    assert four[5].fit.weight_bytes == 2 * two[5].fit.weight_bytes


def test_a_note_of_the_measuring_is_passed_on():
    assert "numpy was measured, since" in printed(measured(note="numpy was measured, since"))


def test_figures_of_a_busy_machine_are_told_to_be_low():
    assert "62% busy with other programs" in printed(measured(busy=0.62))
    assert "busy" not in printed(measured(busy=0.1))


def test_the_plain_data_is_json_with_all_figures():
    data = json.loads(json.dumps(as_data(machine_report(measured()))))
    assert data["measured"]["device"]["read_bytes_per_s"] == 28e9
    assert len(data["models"]) == 8
    assert data["models"][-1]["fit"]["tok_s"] is None
    assert data["models"][0]["fit"]["tok_s"] > 1
    assert data["tokens"] == 4096
