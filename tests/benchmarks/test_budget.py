"""The ablation of the recipe ``budget``: cells of equal cost, paired differences, and a small one run to its end."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import budget

    return budget


def test_cheaper_changes_train_longer_within_the_same_seconds(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "step_seconds", lambda name, side, batch: 1e-4 * side**2)
    clock = benchmark.Clock(tmp_path / "clock.json")
    base = benchmark.recipe("budget", "cifar10")
    growing = benchmark.length_of(base, clock, 25)
    whole = benchmark.length_of(benchmark.replace(base, progressive=1.0), clock, 25)
    assert growing.epochs * growing.repeats > whole.epochs * whole.repeats
    assert max(growing.seconds, whole.seconds) <= 25 * 60
    known = json.loads(clock.path.read_text())
    assert {key.split(", ")[1] for key in known} == {"16 px", "24 px", "32 px"}


def test_differences_are_paired_by_seed(benchmark):
    errors = {("base", 0): 10.0, ("base", 1): 12.0, ("cosine", 0): 9.0, ("cosine", 1): 12.0, ("cosine", 2): 5.0}
    cells = [{"change": c, "seed": s, "minutes": 25, "error_pct": e} for (c, s), e in errors.items()]
    base, cosine = benchmark.summary(cells)
    assert (base["n"], base["error_pct"], base["difference_points"]) == (2, 11.0, None)
    assert (cosine["n"], cosine["difference_points"]) == (3, -0.5)
    assert cosine["interval_half_width_95"] == pytest.approx(12.706 * 0.7071 / 2**0.5, abs=1e-3)


def test_every_change_is_a_field_of_the_recipe(benchmark):
    base = benchmark.recipe("budget", "cifar10")
    for name, change in benchmark.CHANGES.items():
        changed = benchmark.replace(base, **change)
        assert name == "base" or changed != base
    assert benchmark.flags_of({"lr": 0.1, "alternate_flip": False}) == ["--lr", "0.1", "--no-alternate-flip"]


def test_a_recorded_command_names_no_folder_of_this_machine(benchmark, tmp_path):
    argv = ["--cifar10", str(tmp_path), "--minutes", "5", "--out", "results/x.json", "--only", "rate 0.1"]
    assert benchmark.command_of("budget.py", argv) == (
        "python benchmarks/budget.py --cifar10 DIR --minutes 5 --only 'rate 0.1'"
    )
