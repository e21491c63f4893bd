"""The paper's claims, as contrasts between rows, and the verdict on each from the records of a protocol."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, get_args

from scipy import stats

from .cells import Places, records_of
from .declarations import EXPERIMENTS, Row

Verdict = Literal["holds", "does not hold", "not decided", "not run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
LEVEL = 0.05  # two-sided

Value = Callable[[Mapping[str, Any]], float | None]


def test_error(record: Mapping[str, Any]) -> float | None:
    """Percent, top-1."""
    return record["test"]["error_pct"]


def response(record: Mapping[str, Any]) -> float | None:
    """Mean absolute response of the second stage (paper, section 4.1); None if not measured."""
    return record.get("responses", {}).get("stage 2")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """``weights``: for rows of ``experiment``, by label; the claim is that the weighted sum of ``value`` is positive.

    ``source``: the paper's section; *ours* if the paper does not claim it for these networks.
    """

    text: str
    source: str
    experiment: str
    weights: Mapping[str, float]
    value: Value = test_error
    unit: str = "points"


@dataclass(frozen=True)
class Finding:
    """``estimate`` and the half width of its 95 % interval, in the claim's unit; ``runs`` per row, in order."""

    claim: Claim
    verdict: Verdict
    runs: tuple[int, ...]
    _: KW_ONLY
    estimate: float | None = None
    half_width: float | None = None
    p: float | None = None

    @property
    def measured(self) -> str:
        """``+3.20 ± 0.87 points``, as far as known."""
        if self.estimate is None:
            return "–"
        interval = "" if self.half_width is None else f" ± {self.half_width:.2f}"
        return f"{self.estimate:+.2f}{interval} {self.claim.unit}"


def _lower_error(text: str, source: str, experiment: str, good: str, bad: str) -> Claim:
    return Claim(text=text, source=source, experiment=experiment, weights={bad: 1.0, good: -1.0})


def _learning_claims() -> list[Claim]:
    source = "4.1, residual learning"
    by_depth = [
        _lower_error(
            f"Attention-{depth}: residual learning has a lower error than naive learning",
            source,
            "learning",
            f"Attention-{depth}, residual learning",
            f"Attention-{depth}, naive learning",
        )
        for depth in (56, 92, 128, 164)
    ]
    gap = {
        "Attention-164, naive learning": 1.0,
        "Attention-164, residual learning": -1.0,
        "Attention-56, naive learning": -1.0,
        "Attention-56, residual learning": 1.0,
    }
    responses = [
        Claim(
            text=f"Attention-{depth}: under naive learning the second stage's response is weaker",
            source=source,
            experiment="learning",
            weights={f"Attention-{depth}, residual learning": 1.0, f"Attention-{depth}, naive learning": -1.0},
            value=response,
            unit="mean response",
        )
        for depth, source in ((164, "4.1, figure of responses"), (56, "ours, after 4.1"))
    ]
    return [
        *by_depth,
        Claim(
            text="The gap between the two grows with depth (164 against 56)",
            source=source,
            experiment="learning",
            weights=gap,
        ),
        *responses,
    ]


def _noise_claims() -> list[Claim]:
    return [
        *(
            _lower_error(
                f"{rate} % wrong labels: Attention-92 has a lower error than ResNet-164",
                "4.1, noisy labels",
                "label_noise",
                f"Attention-92, {rate} % noise",
                f"ResNet-164, {rate} % noise",
            )
            for rate in (10, 30, 50, 70)
        ),
        *(
            _lower_error(
                f"{rate} % wrong labels: Attention-56 has a lower error than ResNet-56",
                "ours, after 4.1",
                "label_noise_56",
                f"Attention-56, {rate} % noise",
                f"ResNet-56, {rate} % noise",
            )
            for rate in (10, 50)
        ),
    ]


def _depth_claims() -> list[Claim]:
    return [
        _lower_error(
            f"{data}: Attention-{deep} has a lower error than Attention-{shallow}",
            "4.1, comparison"
            if shallow > 56
            else "4.1, residual learning"
            if data == "CIFAR-10"
            else "ours, after 4.1",
            "depth",
            f"Attention-{deep}, {data}",
            f"Attention-{shallow}, {data}",
        )
        for data in ("CIFAR-10", "CIFAR-100")
        for shallow, deep in ((56, 92), (92, 236), (236, 452))
    ]


CLAIMS: tuple[Claim, ...] = (
    *_learning_claims(),
    *(
        _lower_error(
            f"Mixed attention has a lower error than {kind} attention",
            "3.3, table 1",
            "mask_activation",
            "mixed attention",
            f"{kind} attention",
        )
        for kind in ("channel", "spatial")
    ),
    _lower_error(
        "The encoder-decoder mask has a lower error than local convolutions",
        "4.1, mask structures",
        "mask_structure",
        "encoder and decoder",
        "local convolutions",
    ),
    *_noise_claims(),
    *_depth_claims(),
    _lower_error(
        "Wide Attention-92 trains: a lower error than wide Attention-56 (36.2 % in a re-implementation)",
        "ours; a re-implementation's network",
        "wide_learning",
        "Attention-92 wide, residual",
        "Attention-56 wide, residual",
    ),
)

UNTESTABLE = (
    "ImageNet: Attention-56, AttentionNeXt-56, AttentionInception-56 and Attention-92 against other networks",
    "ImageNet: the same error as deeper residual networks with fewer parameters and operations",
)


def find(claim: Claim, protocol: str, places: Places) -> Finding:
    """Welch's test of the claim's contrast on all recorded runs; a single run per row decides nothing."""
    experiment = EXPERIMENTS[claim.experiment]
    rows = {row.label: row for row in experiment.rows}
    found = [(_values(claim, rows[label], protocol, places), weight) for label, weight in claim.weights.items()]
    runs = tuple(len(values) for values, _ in found)
    if not all(runs):
        return Finding(claim, "not run", runs)
    estimate = sum(weight * statistics.mean(values) for values, weight in found)
    if min(runs) < 2:
        return Finding(claim, "not decided", runs, estimate=estimate)
    half_width, p = _interval(estimate, found)
    verdict: Verdict = "not decided" if p >= LEVEL else "holds" if estimate > 0 else "does not hold"
    return Finding(claim, verdict, runs, estimate=estimate, half_width=half_width, p=p)


def _values(claim: Claim, row: Row, protocol: str, places: Places) -> list[float]:
    records = records_of(protocol, EXPERIMENTS[claim.experiment], row, places)
    return [value for record in records if (value := claim.value(record)) is not None]


def _interval(estimate: float, found: Sequence[tuple[list[float], float]]) -> tuple[float, float]:
    """Half width of the 95 % interval and two-sided p, with Welch and Satterthwaite's degrees of freedom."""
    parts = [weight**2 * statistics.variance(values) / len(values) for values, weight in found]
    variance = sum(parts)
    if variance == 0.0:  # runs that agree to the last digit say nothing about the variance
        return 0.0, 1.0
    freedom = variance**2 / sum(part**2 / (len(values) - 1) for part, (values, _) in zip(parts, found, strict=True))
    error = variance**0.5
    return float(stats.t.ppf(1 - LEVEL / 2, freedom) * error), float(2 * stats.t.sf(abs(estimate) / error, freedom))


def _table_row(finding: Finding) -> str:
    claim = finding.claim
    p = "" if finding.p is None else ", p < 0.001" if finding.p < 0.001 else f", p = {finding.p:.3f}"
    runs = ", ".join(map(str, finding.runs)) if any(finding.runs) else "–"
    return f"| {claim.text} | {claim.source} | **{finding.verdict}** | {finding.measured}{p} | {runs} |"


def markdown(protocol: str, places: Places) -> str:
    """Every claim with its verdict at this protocol's scale, and the claims that none of our tables can test."""
    lines = ["| claim | section | here | in the claim's favour | runs of each row |", "|---|---|---|---:|---:|"]
    lines += [_table_row(find(claim, protocol, places)) for claim in CLAIMS]
    lines += [f"| {text} | – | **cannot test**: ImageNet was not available | – | – |" for text in UNTESTABLE]
    return "\n".join(lines)
