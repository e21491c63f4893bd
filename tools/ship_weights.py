"""Add a run's best weights to the package: fp16, BN statistics in fp32, without this machine's paths.

python tools/ship_weights.py RUN attention56_cifar.cifar10
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from residual_attention.checkpoints import Card, read_checkpoint, resolve_model, save_checkpoint
from residual_attention.checkpoints.load import WEIGHTS


def half(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """fp16 for weights; running statistics and counters keep their dtype."""
    if not tensor.is_floating_point() or "running_" in name:
        return tensor
    return tensor.half()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder or checkpoint")
    parser.add_argument("name", help="NETWORK.DATA")
    arguments = parser.parse_args()
    tensors, header = read_checkpoint(path := resolve_model(arguments.run))
    card = Card.from_header(header, path)
    card = replace(card, config={**card.config, "data_dir": None})
    out: Path = WEIGHTS / f"{arguments.name}.safetensors"
    out.parent.mkdir(exist_ok=True)
    save_checkpoint(out, {name: half(name, t) for name, t in tensors.items()}, card.to_header())
    print(f"{out}: {out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
