"""torch's exporter: quiet while it runs, and without its notes, which have this machine's paths, in what it writes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


@contextmanager
def silenced() -> Iterator[None]:
    """Silence an exporter's logs and warnings; errors are still raised."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


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
