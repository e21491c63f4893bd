"""What an ONNX file tells a reader who does not know this package."""

import json

from ..data.preprocess import Preprocess
from .card import Card
from .exported import LIKENESS

FILTER = "bilinear, antialiased when shrinking (Pillow's Image.Resampling.BILINEAR)"


def _resize(how: Preprocess) -> str:
    side = how.image_size
    if how.resize == "squash":
        return f"to {side} x {side} px, whatever the aspect ratio"
    if how.resize == "letterbox":
        colour = ", ".join(str(round(255 * value)) for value in how.mean)
        return f"the long side to {side} px, then centred on a square of {side} px of the colour ({colour})"
    return f"the short side to {_short_side(how)} px, then the central square of {side} px"


def _short_side(how: Preprocess) -> int:
    return round(how.image_size / how.crop_pct)


def plain_metadata(card: Card) -> dict[str, str]:
    """How to run a classifier, key by key; lists are JSON."""
    how = card.preprocess
    assert how is not None
    colour = how.in_chans == 3
    function = "sigmoid" if card.confidence.several else "softmax"
    plain = {
        "input": "images: float32 (batch, channels, height, width)",
        "layout": "NCHW",
        "channel_order": "RGB" if colour else "L (gray, ITU-R 601)",
        "orientation": "as EXIF says",
        "resize": _resize(how),
        "resize_mode": how.resize,
        "resize_short_side": str(_short_side(how)) if how.resize == "crop" else "",
        "resize_filter": FILTER,
        "image_size": str(how.image_size),
        "range": "8-bit values / 255, so 0 to 1; then (value - mean) / std per channel",
        "mean": json.dumps(how.mean),
        "std": json.dumps(how.std),
        "output": f"logits: float32 (batch, classes), before the {function}",
        "temperature": repr(card.confidence.temperature),
        "probabilities": f"{function}(logits / temperature)",
        "classes": json.dumps(card.classes, ensure_ascii=False),
    }
    if card.confidence.several:
        plain["answer"] = "any number of labels: each class whose probability is at least its threshold"
        plain["thresholds"] = json.dumps(card.confidence.thresholds)
    if card.confidence.centre:
        plain[LIKENESS] = "float32 (batch,); below least_likeness, an image is unlike the training images"
        plain["least_likeness"] = repr(card.confidence.least_likeness)
    return {key: value for key, value in plain.items() if value}
