"""The experiment as data: its settings, its cells in the order in which they run, and what a cell measures."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

WITHOUT_MASKS, WITH_MASKS, FROM_SCRATCH = ARMS = ("without masks", "with masks", "from scratch")
IMAGES_PER_CLASS = (20, 100, 500)
FINETUNE_LR = 0.1  # chosen over 0.02 on training images that were held out, as `--validate` holds them out
LAYER_DECAY = 0.75
DEFAULT = "default"  # the variant that others are compared with


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The size of the whole experiment, and the masks' settings of this variant."""

    classes: int  # in each half
    images_per_class: tuple[int, ...]
    minutes: float
    pretrain_minutes: float
    seeds: int
    batch_size: int
    networks: tuple[str, ...]
    mosaics: int
    arms: tuple[str, ...] = ARMS
    validate: bool = False
    finetune_lr: float = FINETUNE_LR
    variant: str = DEFAULT
    mask_start: float | None = None
    mask_width: int | None = None
    layer_decay: float = LAYER_DECAY
    mask_lr: float = 1.0

    def cells(self) -> Iterator["Cell"]:
        """Seeds are the outer loop: a stopped experiment has every arm equally often."""
        for seed in range(self.seeds):
            for network in self.networks:
                for count in self.images_per_class:
                    for arm in self.arms:
                        yield Cell(self.variant, network, count, arm, seed)


@dataclass(frozen=True)
class Cell:
    """One training."""

    variant: str
    network: str
    images_per_class: int
    arm: str
    seed: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Cell":
        """The cell of a result in the output file."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Length:
    """How long a training was."""

    steps: int
    train_time_s: float
    epochs: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a cell measured. ``same_top1_at_start_pct``: test images to which the trunk gives the same class with masks
    as without, before training; None without masks. ``localisation``: by method."""

    cell: Cell
    error_pct: float
    pretrained_error_pct: float
    same_top1_at_start_pct: float | None
    length: Length
    parameters: int
    localisation: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The result as the output file has it."""
        same = self.same_top1_at_start_pct
        return {
            **asdict(self.cell),
            "error_pct": round(self.error_pct, 3),
            "pretrained_error_pct": round(self.pretrained_error_pct, 3),
            **({} if same is None else {"same_top1_at_start_pct": round(same, 2)}),
            "steps": self.length.steps,
            "train_time_s": round(self.length.train_time_s, 2),
            "epochs": round(self.length.epochs, 2),
            "parameters": self.parameters,
            "localisation": {method: round(share, 4) for method, share in self.localisation.items()},
        }
