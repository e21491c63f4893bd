"""The named readings of a mask: how its channels become one map. Plugins can add more (`register_reading`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..plugins import Choice, Choices

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Reading(Choice):
    """``text`` is the figure title; ``value`` maps M and R (B, C, h, w) to (B, h, w), see `readings`.

    R is None unless ``gradients`` requests a backward pass. ``signed``: whether the map has values of both signs; None
    if it does when M does.
    """

    gradients: bool = False
    signed: bool | None = None


_HOME = "attention.reductions"

READINGS: Choices[Reading] = Choices(
    "reading",
    {
        "mean": Reading("mean over channels", f"{_HOME}:mean_over_channels"),
        "excited": Reading("the channel most excited by the class", f"{_HOME}:most_excited_channel", gradients=True),
        "class": Reading("where the mask supports the class", f"{_HOME}:share_of_class", gradients=True, signed=False),
    },
    "How a mask of many channels becomes one map.",
)


def register_reading(
    name: str, *, text: str = "", gradients: bool = False, signed: bool | None = None
) -> Callable[[F], F]:
    """A decorator: registers ``--reading name``, which maps M (B, C, h, w) and R (same shape, or None) to (B, h, w).

    R = M * dy/dM, the mask's contribution to the class logit y, is computed if ``gradients`` is True; this costs a
    backward pass. ``text`` is the title in figures and help, by default the name. ``signed`` maps are drawn on a scale
    symmetric about 0; None does so if the masks are signed.
    """
    return READINGS.register(name, lambda function: Reading(text or name, function, gradients, signed))


def needs_gradients(reading: str | int) -> bool:
    """Whether a reading, or a channel number, needs a backward pass. Raises UserError for an unknown name."""
    return isinstance(reading, str) and READINGS.choice(reading).gradients


def is_signed(reading: str | int, masks_are_signed: bool) -> bool:
    """Whether a reading's maps are drawn on a scale symmetric about 0. Raises UserError for an unknown name."""
    own = READINGS.choice(reading).signed if isinstance(reading, str) else None
    return masks_are_signed if own is None else own


def meaning(reading: str | int) -> str:
    """The description of a reading for a title. Raises UserError for an unknown name."""
    return READINGS.choice(reading).text if isinstance(reading, str) else f"channel {reading}"
