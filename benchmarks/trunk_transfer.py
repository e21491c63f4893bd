"""What masks bring to a trained trunk: CIFAR-100's first 50 classes stand for its training, the other 50 are learned.

Two plain networks are trained on 50 classes. Each is then fine-tuned on 20, 100 and 500 images a class of the other 50
without masks and with masks, and trained from scratch, for equal minutes. Every cell is repeated over seeds; nothing is
selected on the test images. Localisation: the share of a map's positive part that lies on the right quarter of a 2x2
mosaic of test images of four classes (a grid pointing game), for the masks and for Grad-CAM.

    python benchmarks/trunk_transfer.py --data-dir DIR [--minutes 5] [--pretrain-minutes 30] [--seeds 3]
    python benchmarks/trunk_transfer.py --smoke --out /tmp/smoke.json   # seconds, on noise

A cell that is in the output file is not run again, so a stopped command goes on, and two commands (``--networks``) may
fill one file. ``--variant NAME`` with ``--mask-start``, ``--mask-width``, ``--mask-lr`` or ``--layer-decay`` adds cells
of other settings. Settings are chosen with ``--validate``, on training images that are held out.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from record import add_cell, command_of, recorded_cells
from residual_attention.devices import resolve_device
from transfer.cells import ARMS, DEFAULT, FINETUNE_LR, IMAGES_PER_CLASS, LAYER_DECAY, WITH_MASKS, Cell, Setting
from transfer.images import CIFAR_IMAGES_PER_CLASS, cifar, halves, noise
from transfer.networks import NETWORKS
from transfer.summary import with_summary
from transfer.trial import HELD_OUT, run_cell

SMOKE: dict[str, Any] = {
    "classes": 4,
    "images_per_class": (4,),
    "minutes": 0.02,
    "pretrain_minutes": 0.02,
    "seeds": 2,
    "batch_size": 8,
    "networks": ("plain56_cifar",),
    "mosaics": 2,
}


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/trunk_transfer.json"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the trained trunks; runs/trunk_transfer by default")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, a cell")
    parser.add_argument("--pretrain-minutes", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--images", nargs="+", type=int, default=list(IMAGES_PER_CLASS), help="images a class")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="all, or with masks alone for a variant")
    parser.add_argument("--validate", action="store_true", help="measure on training images that are held out")
    parser.add_argument("--finetune-lr", type=float, default=FINETUNE_LR)
    parser.add_argument("--variant", default=DEFAULT)
    parser.add_argument("--mask-start", type=float)
    parser.add_argument("--mask-width", type=int)
    parser.add_argument("--layer-decay", type=float, default=LAYER_DECAY)
    parser.add_argument("--mask-lr", type=float, default=1.0)
    parser.add_argument("--smoke", action="store_true", help="four classes of noise, a second a cell")
    given = parser.parse_args(argv)
    if given.arms is None:
        given.arms = ARMS if given.variant == DEFAULT else (WITH_MASKS,)
    if given.validate and given.variant == DEFAULT:
        parser.error("--validate measures another thing than the default's cells: give it a --variant of its own")
    if given.validate and max(given.images) > CIFAR_IMAGES_PER_CLASS - HELD_OUT:
        parser.error(f"--validate holds {HELD_OUT} images a class out: at most 400 --images")
    return given


def setting_of(given: argparse.Namespace) -> Setting:
    setting = Setting(
        classes=50,
        images_per_class=tuple(given.images),
        minutes=given.minutes,
        pretrain_minutes=given.pretrain_minutes,
        seeds=given.seeds,
        batch_size=given.batch_size,
        networks=tuple(given.networks),
        mosaics=100,
        arms=tuple(given.arms),
        validate=given.validate,
        finetune_lr=given.finetune_lr,
        variant=given.variant,
        mask_start=given.mask_start,
        mask_width=given.mask_width,
        layer_decay=given.layer_decay,
        mask_lr=given.mask_lr,
    )
    return replace(setting, **SMOKE) if given.smoke else setting


def main(argv: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    given = parsed(argv)
    setting = setting_of(given)
    train, test = noise(setting.classes) if given.smoke else cifar(given.data_dir)
    of_both = halves(train, test, setting.classes)
    device = resolve_device(given.device)
    folder = given.work or (given.out.parent if given.smoke else Path("runs")) / "trunk_transfer"
    command = command_of("trunk_transfer.py", sys.argv[1:] if argv is None else argv)
    for cell in setting.cells():
        if cell in map(Cell.of, recorded_cells(given.out)):
            continue
        result = run_cell(cell, of_both, setting, folder, device)
        add_cell(given.out, result.to_json(), command, partial(with_summary, setting), device)
        say(f"{cell.network} {cell.images_per_class} {cell.arm} seed {cell.seed}: {result.error_pct:.2f} %")


if __name__ == "__main__":
    main()
