"""The bench measures what it claims, in turns, and reports what it did not run."""

import json
import time

import pytest
import torch

from residual_attention.bench import contenders, suites
from residual_attention.bench.child import alone
from residual_attention.bench.contenders import Contender, inference_call, inference_contenders, training_call
from residual_attention.bench.figure import draw_cost
from residual_attention.bench.suites import Setting
from residual_attention.bench.timing import Timing, interleaved
from residual_attention.cli.main import main

CPU = torch.device("cpu")
SMALL = Contender("small", "attention56_cifar")


def setting(**changes) -> Setting:
    return Setting(**{"device": CPU, "rounds": 1, "sizes": (32,), "tell": lambda line: None, **changes})


def test_rounds_are_taken_in_turn_after_uncounted_calls():
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) or time.sleep(0.002) for name in "ab"}
    timings = interleaved(calls, rounds=2, device=CPU, least_s=0.0)
    assert order == [*"aabb", *"aabb", *"aabb"]
    assert all(len(timing.seconds) == 2 and timing.median >= 0.002 for timing in timings.values())


def test_short_calls_are_timed_many_times_over():
    counts = {"short": 0}

    def short() -> None:
        counts["short"] += 1
        time.sleep(0.001)

    interleaved({"short": short}, rounds=1, device=CPU, least_s=0.05)
    assert counts["short"] > 10


def test_ratios_are_taken_round_by_round():
    """Both slow down together in the second round: the ratio stays the same."""
    ours, theirs = Timing([1.0, 10.0, 2.0]), Timing([3.0, 30.0, 8.0])
    assert ours.times_faster_than(theirs) == (3.0, 3.0, 4.0)


def test_all_ways_of_running_give_the_same_predictions():
    """The compared networks are the same: the same random weights, in eval mode or training."""
    images = torch.randn(2, 3, 32, 32)
    plain = inference_call(SMALL, images, 10)()
    faster = inference_call(Contender("fast", "attention56_cifar", precision="bf16", channels_last=True), images, 10)()
    assert (plain - faster.float()).abs().max() < 0.05 * plain.abs().max().clamp(min=1)


def test_a_training_step_lowers_the_loss_it_returns():
    step = training_call(SMALL, torch.randn(4, 3, 32, 32), 10)
    first = step().item()
    for _ in range(10):
        last = step().item()
    assert last < first


def test_a_separate_process_measures_memory_and_time():
    found = alone("inference", SMALL, size=32, batch=2, num_classes=10, device="cpu")
    assert 10 < found["peak_mib"] < 1500
    assert 0.5 < found["first_result_s"] < 120


def test_the_memory_of_a_process_is_not_its_parents():
    held = torch.ones(2**29)  # 2 GiB here
    found = alone("inference", SMALL, size=32, batch=2, num_classes=10, device="cpu")
    assert found["peak_mib"] < 1500 < held.nbytes / 2**20


def test_each_comparison_runs_in_its_own_process_with_a_row_per_contender(monkeypatch):
    fast = Contender("ours, fast", "attention56_cifar", channels_last=True)
    plain = contenders.baseline_at(32)
    rows = suites._compare(setting(), "inference", 32, 2, [plain, fast])
    assert [row["label"] for row in rows] == [plain.label, "ours, fast"]
    assert rows[0]["times_baseline"] == 1
    assert rows[1]["images_per_s"] > 0


def test_a_failed_process_reports_why():
    with pytest.raises(RuntimeError, match="no model named"):
        alone("inference", Contender("none", "attention57"), size=32, batch=2, num_classes=10, device="cpu")


def test_missing_contenders_are_reported_and_left_out(monkeypatch):
    monkeypatch.setattr(contenders.importlib.util, "find_spec", lambda name: None)
    told: list[str] = []
    present = suites._present(inference_contenders(224, CPU), told.append)
    assert {contender.way for contender in present} == {"eager", "compile"}
    assert any("resattnet56" in line and "pip install 'residual-attention[bench]'" in line for line in told)
    assert any("OpenVINO" in line and "[export]" in line for line in told)


def test_the_command_writes_and_prints_one_json_object(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert main(["bench", "ceiling", "--rounds", "1", "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result == json.loads(out.read_text())
    assert {row["label"] for row in result["rows"]} == {"fp32", "bf16", "int8", "copy_gb_s"}
    assert all(row["value"] > 0 for row in result["rows"])
    assert "GFLOP/s" in printed.err


def test_cold_starts_are_beside_importing_torch():
    rows = {row["label"]: row for row in suites.startup(setting())}
    assert rows["import torch"]["times_import_torch"] == 1
    assert rows["ran --help"]["seconds"] < rows["import torch"]["seconds"]


def test_the_figure_has_a_panel_for_each_sweep(tmp_path):
    rows = [
        {"suite": "cost", "over": over, "what": what, "value": value, "images_per_s": 100.0 / value}
        for over in ("depth", "batch")
        for what in ("inference", "training")
        for value in (2, 4)
    ]
    draw_cost(rows, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 5000


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["inferense"], "did you mean inference?"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["--sizes", "16"], "at least 32 px"),
        (["--out", "bench.txt"], "must end in .json"),
        (["--out", "nowhere/bench.json"], "no folder nowhere"),
    ],
)
def test_wrong_calls_are_one_line(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
