"""``--time``: durations, the length that fits, and a run that keeps it."""

import pytest
import yaml

from residual_attention.errors import UserError
from residual_attention.tasks import resume, train
from residual_attention.training import budget
from residual_attention.training.budget import MOST_EPOCHS, Costs, expected_seconds, longest
from residual_attention.training.duration import seconds_of

COSTS = Costs(step={16: 0.1, 32: 0.4}, epoch_end=2.0, final=10.0, fixed=5.0)


def side_at(progress: float) -> int:
    return 16 if progress < 0.5 else 32


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("45m", 2700), ("2h30m", 9000), ("1d", 86400), ("1.5h", 5400), ("2H 30M", 9000)]
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "45", "h", "m30", "-5m", "0s", "inf", "nan", "5 minutes", "9999d", "30m2h"])
def test_bad_durations_are_one_line(text):
    with pytest.raises(UserError, match="time must be"):
        seconds_of(text)


def test_expected_seconds_count_every_part():
    # 5 fixed + 2 epochs of 10 steps at 0.1 s and 2 at 0.4 s + 4 validations + 10 at the end + 15 for the report
    assert expected_seconds(COSTS, side_at, 4, 10) == pytest.approx(5 + 2 + 8 + 4 * 2 + 10 + 15)


@pytest.mark.parametrize("budget", [100.0, 1000.0, 20_000.0, 1e6])
def test_the_length_fills_the_budget_and_does_not_exceed_it(budget):
    length = longest(COSTS, side_at, lambda repeats: 10 * repeats, budget)
    assert length.seconds <= budget
    assert length.epochs <= MOST_EPOCHS
    if length.repeats == 1 and length.epochs < MOST_EPOCHS:
        assert expected_seconds(COSTS, side_at, length.epochs + 1, 10) > 0.97 * budget
    else:
        assert length.seconds > 0.9 * budget


def test_too_short_a_budget_says_how_much_is_needed():
    with pytest.raises(UserError, match=r"too short for one epoch, which takes 3\d s"):
        longest(COSTS, side_at, lambda repeats: 10 * repeats, 20.0)


def test_a_run_keeps_the_length_it_measured(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "REPORT_S", 1.0)
    config = tiny_config(time="15s", warmup_epochs=0.2, limit_train=32, out=tmp_path / "timed")
    train(config)
    stored = yaml.safe_load((config.out / "config.yaml").read_text())
    assert stored["time"] == "15s"
    assert stored["steps"] is None
    assert stored["epochs"] >= 1
    before = stored["epochs"], stored["repeats"]
    resume(config.out, workers=0)  # nothing is measured anew
    stored = yaml.safe_load((config.out / "config.yaml").read_text())
    assert (stored["epochs"], stored["repeats"]) == before
