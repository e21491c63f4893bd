"""The page of an audit: suspected shortcuts with their tests, and for each class where it looks, with examples."""

import base64
import io

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..attention.geometry import upsample
from ..attention.overlay import as_picture, heat
from ..names import printable
from ..training.page import environment, short_duration
from .clusters import EXAMPLES
from .evidence import CROP
from .examine import Examined
from .findings import Suspicion
from .spots import Spot
from .transplants import transplanted

SIDE = 128  # px of a picture
SHOWN_CLASSES = 40  # with pictures; audit.json has all
OUTLINE = ("#ffffff", "#d55e00")  # two lines, seen on any ground


def _data_url(picture: np.ndarray | Image.Image) -> str:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _enlarged(picture: np.ndarray) -> Image.Image:
    """At `SIDE` px, small images without blur."""
    image = Image.fromarray(picture)
    small = max(image.size) <= SIDE
    return image.resize((SIDE, SIDE), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS)


def _outlined(picture: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    """The picture with a box (left, top, right, bottom), shares of the side, drawn on it."""
    image = _enlarged(picture)
    left, top, right, bottom = (round(edge * (SIDE - 1)) for edge in box)
    draw = ImageDraw.Draw(image)
    for inset, colour in enumerate((OUTLINE[1], OUTLINE[1], OUTLINE[0])):
        draw.rectangle((left + inset, top + inset, right - inset, bottom - inset), outline=colour)
    return image


def _around(peak: Tensor) -> tuple[float, float, float, float]:
    """The box of side `CROP` about a peak (2,), within the image."""
    x, y = (min(max(float(at), CROP / 2), 1 - CROP / 2) for at in peak)
    return x - CROP / 2, y - CROP / 2, x + CROP / 2, y + CROP / 2


def _cropped(picture: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    side = picture.shape[0]
    left, top, right, bottom = (round(edge * side) for edge in box)
    return _enlarged(picture[top : max(bottom, top + 1), left : max(right, left + 1)])


def _suspicion(found: Examined, suspicion: Suspicion, spot: Spot) -> dict[str, object]:
    """A suspicion with pictures: images of the class, the spot marked, and images of others before and after."""
    labels, classes = found.gathered.labels, found.model.classes
    label = classes.index(suspicion.label)
    own = (labels == label).nonzero()[:, 0]
    predicted = found.evidence.predicted
    strength = found.evidence.maps[own][:, spot.cells].sum(dim=1) + (predicted[own] == label)  # the right ones first
    shown = own[strength.argsort(descending=True, stable=True)[:EXAMPLES]]
    others = (labels != label).nonzero()[:, 0]
    others = others[predicted[others] != label] if (predicted[others] != label).any() else others
    hosts = others[torch.linspace(0, len(others) - 1, min(EXAMPLES // 2, len(others))).long()]
    donors = shown[torch.arange(len(hosts)) % len(shown)]
    before = found.gathered.images[hosts]
    after = transplanted(before, found.gathered.images[donors], spot)
    whole = spot.kind == "colours"
    images = as_picture(found.gathered.images[shown])
    answers = [_answers(found, part) for part in (before, after)]
    pairs = [
        {
            "before": _data_url(_enlarged(old)),
            "after": _data_url(_enlarged(new)),
            "was": was,
            "now": now,
        }
        for old, new, was, now in zip(as_picture(before), as_picture(after), *answers, strict=True)
    ]
    return {
        "suspicion": suspicion,
        "images": [_data_url(_enlarged(one) if whole else _outlined(one, suspicion.place.box)) for one in images],
        "pairs": pairs,
    }


@torch.inference_mode()
def _answers(found: Examined, images: Tensor) -> list[str]:
    model = found.model
    device = next(model.parameters()).device
    shares = model.probabilities(model(model.preprocess.normalize(images.to(device)))).cpu()
    return [f"{printable(model.classes[int(row.argmax())])} {100 * float(row.max()):.0f} %" for row in shares]


def _class(found: Examined, number: int) -> dict[str, object]:
    """A class with its mean map over its mean image, and examples of each of its groups."""
    of_class = found.findings.classes[number]
    labels = found.gathered.labels
    own = labels == found.model.classes.index(of_class.label)
    mean = found.gathered.images[own].float().mean(dim=0, keepdim=True).round().to(torch.uint8)
    picture = np.asarray(_enlarged(as_picture(mean)[0]))
    over = heat(picture, upsample(found.evidence.maps[own].mean(dim=0), SIDE, SIDE))
    clusters = []
    for cluster, group in zip(of_class.clusters, found.groups[of_class.label], strict=True):
        chosen = group.members[:EXAMPLES]
        images = as_picture(found.gathered.images[chosen])
        boxes = [_around(found.evidence.peaks[i]) for i in chosen]
        clusters.append(
            {
                "cluster": cluster,
                "examples": [
                    (_data_url(_cropped(image, box)), _data_url(_outlined(image, box)))
                    for image, box in zip(images, boxes, strict=True)
                ],
            }
        )
    return {"found": of_class, "map": _data_url(over), "clusters": clusters}


def render(found: Examined) -> str:
    findings = found.findings
    templates = environment("residual_attention.audit")
    templates.filters["printable"] = printable
    suspected = {suspicion.label for suspicion in findings.suspicions}
    order = sorted(range(len(findings.classes)), key=lambda i: findings.classes[i].label not in suspected)
    pairs = zip(findings.suspicions, found.spots, strict=True)
    return templates.get_template("audit.html.j2").render(
        findings=findings,
        suspicions=[_suspicion(found, suspicion, spot) for suspicion, spot in pairs],
        classes=[_class(found, i) for i in order[:SHOWN_CLASSES]],
        more=max(0, len(order) - SHOWN_CLASSES),
        tests=sum(len(one.tested) for one in findings.classes),
        seconds=short_duration(sum(findings.time_s.values())),
    )
