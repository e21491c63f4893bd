"""Verdicts on the paper's claims: right on records with a known answer, undecided if the runs decide nothing."""

import json
import statistics

import pytest
from scipy import stats

from residual_attention.experiments.cells import Places, cells_of, settings_of
from residual_attention.experiments.claims import CLAIMS, find, markdown, response
from residual_attention.experiments.declarations import EXPERIMENTS

LEARNING = next(claim for claim in CLAIMS if claim.text.startswith("Attention-56: residual learning"))
GAP = next(claim for claim in CLAIMS if claim.text.startswith("The gap"))


@pytest.fixture
def places(tmp_path) -> Places:
    return Places(tmp_path / "runs", tmp_path / "records")


def record(places: Places, claim, errors: dict[str, list[float]]) -> None:
    experiment = EXPERIMENTS[claim.experiment]
    for row in experiment.rows:
        for cell, error in zip(cells_of("cpu", experiment, row, 9, {}), errors.get(row.label, []), strict=False):
            path = places.record_of("cpu", cell)
            path.parent.mkdir(parents=True, exist_ok=True)
            told = {"test": {"error_pct": error}, "responses": {"stage 2": error / 10}}
            path.write_text(json.dumps({"settings": settings_of(cell.config), **told}))


RESIDUAL, NAIVE = "Attention-56, residual learning", "Attention-56, naive learning"


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.text for claim in CLAIMS])
def test_every_claim_is_a_contrast_of_rows_that_exist(claim, places):
    labels = {row.label for row in EXPERIMENTS[claim.experiment].rows}
    assert set(claim.weights) <= labels
    assert sum(claim.weights.values()) == 0
    assert find(claim, "cpu", places).verdict == "not run"


@pytest.mark.parametrize(
    "residual, naive, verdict",
    [
        ([40.0, 40.5, 39.5], [45.0, 45.5, 44.5], "holds"),
        ([45.0, 45.5, 44.5], [40.0, 40.5, 39.5], "does not hold"),
        ([40.0, 45.0, 35.0], [41.0, 46.0, 36.0], "not decided"),
        ([40.0], [60.0], "not decided"),
        ([40.0, 41.0], [60.0], "not decided"),
        ([40.0, 41.0], [], "not run"),
        ([40.0, 40.0], [40.0, 40.0], "not decided"),
        ([40.0, 40.0], [41.0, 41.0], "not decided"),
    ],
)
def test_the_verdict_is_what_the_runs_allow(places, residual, naive, verdict):
    record(places, LEARNING, {RESIDUAL: residual, NAIVE: naive})
    assert find(LEARNING, "cpu", places).verdict == verdict
    assert find(LEARNING, "paper", places).verdict == "not run"  # protocols never mix


def test_two_rows_are_compared_by_welchs_test(places):
    residual, naive = [40.1, 41.3, 39.2], [42.0, 45.9, 43.1, 41.7]
    record(places, LEARNING, {RESIDUAL: residual, NAIVE: naive})
    found = find(LEARNING, "cpu", places)
    theirs = stats.ttest_ind(naive, residual, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.estimate == pytest.approx(statistics.mean(naive) - statistics.mean(residual))
    assert found.half_width == pytest.approx((interval.high - interval.low) / 2)
    assert found.runs == (4, 3)


def test_a_gap_that_grows_is_a_contrast_of_four_rows(places):
    deep = {"Attention-164, residual learning": [30.0, 30.2], "Attention-164, naive learning": [40.0, 40.2]}
    record(places, GAP, {RESIDUAL: [30.0, 30.2], NAIVE: [31.0, 31.2], **deep})
    found = find(GAP, "cpu", places)
    assert found.verdict == "holds"
    assert found.estimate == pytest.approx(9.0)


def test_responses_are_compared_where_they_were_measured(places):
    claim = next(claim for claim in CLAIMS if claim.value is response and claim.text.startswith("Attention-56"))
    record(places, claim, {RESIDUAL: [20.0, 20.4], NAIVE: [10.0, 10.4]})
    assert find(claim, "cpu", places).estimate == pytest.approx(1.0)
    assert response({"test": {}}) is None


def test_the_table_has_a_line_a_claim_and_says_what_it_cannot_test(places):
    record(places, LEARNING, {RESIDUAL: [40.0, 40.5, 39.5], NAIVE: [45.0, 45.5, 44.5]})
    text = markdown("cpu", places)
    assert all(claim.text in text for claim in CLAIMS)
    assert "**holds** | +5.00 ± 1.13 points, p < 0.001 | 3, 3 |" in text
    assert text.count("cannot test") == 2
