"""Which spots of a class are tested, and which of them are suspected."""

from dataclasses import dataclass

from torch import Tensor

from .evidence import Evidence
from .findings import Suspicion
from .sameness import Sameness
from .spots import COLOURS, FRAME_SPOT, PATCHES, STRIPS, Spot, without_overlap
from .transplants import Prober

PROPOSED = 4  # patches by evidence, and as many by sameness
SCREENED, TESTED = 32, 128  # images that a spot is pasted into, at first and if that moved answers
SCREEN_RISE = 0.05  # of the probability, on average: less is not tested further
FOLLOWED = 6  # spots of a class that are tested further, at most
THRESHOLD = 15.0  # percentage points that the whole interval of the lift must exceed,
COLOURS_THRESHOLD = 35.0  # and for colours: those of a class's own subject move answers as well


@dataclass(frozen=True)
class Tested:
    spot: Spot
    screened: float


def threshold(spot: Spot) -> float:
    return COLOURS_THRESHOLD if spot.kind == "colours" else THRESHOLD


def share_in(maps: Tensor, spot: Spot) -> Tensor:
    """(N, LATTICE, LATTICE) to (N,): the share of the evidence in the spot."""
    return maps[:, spot.cells].sum(dim=1)


def proposals(evidence: Evidence, labels: Tensor, sameness: Sameness, label: int) -> list[Spot]:
    """Strips, frame and colours always; of the patches those with more evidence than in other classes' images, and
    those that look most alike."""
    own, others = evidence.maps[labels == label].mean(dim=0), evidence.maps[labels != label].mean(dim=0)
    excess = {spot: float((own - others)[spot.cells].sum()) for spot in PATCHES}
    alike = {spot: sameness.of(label, spot) for spot in PATCHES}
    by_evidence = without_overlap(sorted(PATCHES, key=lambda spot: -excess[spot]), PROPOSED)
    by_sameness = without_overlap(sorted(PATCHES, key=lambda spot: -alike[spot]), PROPOSED)
    return [*dict.fromkeys((*by_evidence, *by_sameness)), *STRIPS, FRAME_SPOT, COLOURS]


def screen(prober: Prober, label: int, spots: list[Spot]) -> list[Tested]:
    """The spots that move answers when pasted, the strongest first."""
    cast = prober.cast(label, SCREENED, "screen")
    found = [Tested(spot, prober.rise(label, cast, spot)) for spot in spots]
    return sorted(found, key=lambda one: -one.screened)


def suspicions_of(
    prober: Prober, evidence: Evidence, sameness: Sameness, label: int, name: str
) -> tuple[list[tuple[Spot, Suspicion]], list[Spot]]:
    """The suspected spots of a class with their tests, the strongest first, and all that were tested."""
    labels = prober.gathered.labels
    spots = proposals(evidence, labels, sameness, label)
    promising = [one.spot for one in screen(prober, label, spots) if one.screened >= SCREEN_RISE]
    cast = prober.cast(label, TESTED, "test")
    found = [(spot, prober.pasted(label, cast, spot)) for spot in promising[:FOLLOWED]]
    strong = [(spot, effect) for spot, effect in found if effect.lift.low > threshold(spot)]
    strong.sort(key=lambda one: -one[1].lift.mean * (1 - one[0].area / 2))  # of two that do as much, the smaller
    kept = without_overlap([spot for spot, _ in strong], len(strong))
    effects = dict(strong)
    return [
        (
            spot,
            Suspicion(
                label=name,
                place=spot.place,
                evidence_pct=_mean_share(evidence, labels == label, spot),
                evidence_elsewhere_pct=_mean_share(evidence, labels != label, spot),
                sameness=sameness.of(label, spot),
                pasted=effects[spot],
                covered=prober.covered(label, TESTED, spot),
            ),
        )
        for spot in kept
    ], spots


def _mean_share(evidence: Evidence, of: Tensor, spot: Spot) -> float | None:
    return None if spot.kind == "colours" else 100 * float(share_in(evidence.maps[of], spot).mean())
