"""What an ONNX file tells a reader who does not know this package, and what it must not tell: this machine's paths."""

import json
from typing import TYPE_CHECKING

from ..data.preprocess import Preprocess
from .card import Card
from .exported import LIKENESS

if TYPE_CHECKING:
    import onnx

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


def strip_traces(proto: "onnx.ModelProto") -> None:
    """Delete the exporter's notes: stack traces with this machine's paths, module names, rewriting rules."""
    graphs = [proto.graph]
    while graphs:
        graph = graphs.pop()
        del graph.metadata_props[:]
        graph.doc_string = ""
        for part in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
            for each in part:
                del each.metadata_props[:]
                each.doc_string = ""
        graphs += [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
        graphs += [graph for node in graph.node for attribute in node.attribute for graph in attribute.graphs]
