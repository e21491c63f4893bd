"""The command line of the tools that go through the weights in the package."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from residual_attention.checkpoints import list_weights


def shipped_weights(description: str | None) -> Iterator[tuple[str, Path | None]]:
    """The weights that the command line names, all by default, each with the folder of its data; None: downloaded."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="shipped weights; all by default")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 folder; downloaded by default")
    parser.add_argument("--cifar100", type=Path, help="CIFAR-100 folder; downloaded by default")
    given = parser.parse_args()
    folders = {"cifar10": given.cifar10, "cifar100": given.cifar100}
    for name in given.names or list_weights():
        yield name, folders.get(name.split(".")[1])
