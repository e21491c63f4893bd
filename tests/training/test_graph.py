"""TensorBoard's graph: the modules as nested names, their shapes, and nothing that stays in memory."""

import torch
from torch import nn

from residual_attention import create_model
from residual_attention.training.graph import graph_of

SMALL = {"num_classes": 3, "widths": (16, 16, 16), "mask_depths": (1, 1, 1), "t": 1}


def test_modules_are_nested_and_joined_as_in_the_network():
    model = create_model("attention56_cifar", **SMALL).eval()
    nodes = {node.name: node for node in graph_of(model, torch.zeros(1, 3, 32, 32)).node}
    assert {"stem/0", "stages/0/0/residual/4", "head/fc"} <= nodes.keys()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert sum(node.op == "Conv2d" for node in nodes.values()) == len(convolutions)
    assert all(source in nodes for node in nodes.values() for source in node.input)
    sizes = [size.size for size in nodes["head/fc"].attr["_output_shapes"].list.shape[0].dim]
    assert sizes == [1, 3]


def test_a_module_that_is_called_twice_has_two_nodes():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x) + 1)

    names = [node.name for node in graph_of(Twice(), torch.zeros(1, 2)).node]
    assert len(names) == len(set(names))
    assert {"act", "act_1"} <= set(names)
