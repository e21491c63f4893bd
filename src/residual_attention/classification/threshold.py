"""The probability below which a classifier answers "unsure": given, or chosen for an error on validation images."""

from typing import NamedTuple

from ..checkpoints.confidence import Answering, Confidence
from ..errors import UserError
from .interval import wilson_interval_pct


class Threshold(NamedTuple):
    """Answers whose probability is below ``least`` are unsure; ``note`` says where the number comes from."""

    least: float
    note: str


def _percentage(text: str, flag: str) -> float:
    """``2%`` as 2. Raises UserError without the sign: 0.02 and 2 could mean either."""
    number = text.strip().removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not text.strip().endswith("%") or not 0 <= value <= 100:
        raise UserError(f"{flag} must be a percentage such as 2%, not {text!r}")
    return value


def _probability(text: str, flag: str) -> float:
    """``0.8`` or ``80%`` as 0.8."""
    if text.strip().endswith("%"):
        return _percentage(text, flag) / 100
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"{flag} must be a probability such as 0.8, not {text!r}")
    return value


def _for_error(confidence: Confidence, most_pct: float) -> Answering:
    """The point of the curve that answers the most images with an error of at most ``most_pct``.

    Raises UserError for a model without a curve, and for an error that no threshold reaches.
    """
    if not confidence.curve:
        raise UserError("--max-error needs a model that was trained with a validation split; give --min-confidence")
    fitting = [point for point in confidence.curve if 100 * point.wrong <= most_pct * point.answered]
    if not fitting:
        best = min(confidence.curve, key=lambda point: point.wrong / point.answered)
        raise UserError(
            f"--max-error {most_pct:g}%: no threshold reaches it on the {confidence.images} validation images; "
            f"the lowest error is {100 * best.wrong / best.answered:.1f} %, of the {best.answered} most confident"
        )
    return max(fitting, key=lambda point: point.answered)


def choose_threshold(confidence: Confidence, min_confidence: str | None, max_error: str | None) -> Threshold | None:
    """The threshold that was asked for, as text: ``0.8`` or ``80%``, or an error such as ``2%``; None without either.

    Of a multi-label classifier it replaces the thresholds of all labels.

    Raises UserError: both, a number out of range, an error that cannot be reached, or one asked of a multi-label
    classifier.
    """
    if max_error is not None and confidence.several:
        raise UserError("--max-error needs one class per image; this model is multi-label: use --min-confidence")
    if min_confidence is not None and max_error is not None:
        raise UserError("give --min-confidence or --max-error, not both")
    if min_confidence is not None:
        least = _probability(min_confidence, "--min-confidence")
        what = "labels are given from" if confidence.several else "unsure below"
        return Threshold(least, f"{what} {100 * least:g} %{' on' if confidence.several else ''}")
    if max_error is None:
        return None
    least, answered, wrong = _for_error(confidence, _percentage(max_error, "--max-error"))
    low, high = wilson_interval_pct(wrong, answered)
    return Threshold(
        least,
        f"unsure below {100 * least:.1f} %, chosen on {confidence.images} validation images: "
        f"{100 * answered / confidence.images:.0f} % answered, {100 * wrong / answered:.1f} % of them wrong "
        f"(95 %: {low:.1f} to {high:.1f})",
    )
