"""The transfer benchmark on noise: every arm runs, a stopped command goes on, and differences are paired by seed."""

import json
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow  # run by `make test-slow`

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import trunk_transfer

    return trunk_transfer


def test_the_smallest_experiment_and_its_continuation(benchmark, tmp_path, monkeypatch):
    arguments = ["--smoke", "--out", str(out := tmp_path / "result.json")]
    said: list[str] = []
    run_cell = benchmark.run_cell

    def stopping(*given):
        if len(said) == 2:
            raise KeyboardInterrupt
        return run_cell(*given)

    monkeypatch.setattr(benchmark, "run_cell", stopping)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(arguments, said.append)
    assert len(json.loads(out.read_text())["cells"]) == 2
    monkeypatch.setattr(benchmark, "run_cell", run_cell)
    benchmark.main(arguments, said.append)
    result = json.loads(out.read_text())
    assert len(said) == len(result["cells"]) == 6
    assert {cell["arm"] for cell in result["cells"]} == set(benchmark.ARMS)
    (row,) = result["summary"]
    assert (row["n"], row["images_per_class"]) == (2, 4)
    (together,) = result["together"]
    assert together["difference_points"] == row["difference_points"]
    assert together["n"] == 2
    for cell in result["cells"]:
        methods = {"Grad-CAM"} | ({"masks, last stage", "masks, combined"} if cell["arm"] == "with masks" else set())
        assert set(cell["localisation"]) == methods


@pytest.mark.usefixtures("benchmark")
def test_the_interval_of_paired_differences():
    from transfer.summary import interval

    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == (pytest.approx(-0.484, abs=1e-3), pytest.approx(4.484, abs=1e-3))


@pytest.mark.usefixtures("benchmark")
def test_the_share_of_a_map_on_its_quarter():
    from transfer.mosaics import shares_on

    quarters = torch.zeros(4, 8, 8)
    for number in range(4):
        row, column = divmod(number, 2)
        quarters[number, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
    quarters[3] -= 2 * quarters[0]  # what is negative does not count
    assert shares_on(quarters, torch.arange(4)).tolist() == [1, 1, 1, 1]
    assert shares_on(quarters, torch.ones(4, dtype=torch.long)).tolist() == [0, 1, 0, 0]
    assert shares_on(-quarters[:1], torch.tensor([2])).tolist() == [0.25]
