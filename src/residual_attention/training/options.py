"""Options of a run that stand on their own: of the network, by the paper's terms, and of the machine."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ..family.choices import LEARNINGS, MASK_ACTIVATIONS, MASK_STRUCTURES, STEMS, UNITS
from ..plugins import chosen_from

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Schedule = Literal["cosine", "multistep", "plateau", "constant"]
Switch = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class CommonOptions:
    """What every run has: its data and network, what it starts from, its seed."""

    data: str = ""
    """Data set."""
    model: str | None = None
    """Network, see `ran models`."""
    init: str | None = None
    """Start from the weights of this MODEL; a classifier of other classes starts fresh."""
    seed: int = 0
    """All randomness is a function of (seed, epoch, step, sample)."""


@dataclass(frozen=True)
class LoopOptions:
    """Schedule and optimizer."""

    # Schedule
    epochs: int | None = 15
    """Passes over the training images."""
    steps: int | None = None
    """Optimizer steps; overrides epochs."""
    min_steps: int = 0
    """Read the data several times an epoch until the run has at least this many steps (small data sets)."""
    repeats: int | None = None
    """Times that an epoch reads the training images; by default as often as min-steps asks for."""
    batch_size: int = 128
    """Images of one optimizer step, over all processes and accumulation."""
    accumulate: int = 1
    """Split each batch in this many parts, to save memory."""
    lr: float = 0.1
    """Peak learning rate, for the batch size given."""
    schedule: Schedule = "cosine"
    """cosine | multistep | plateau | constant."""
    warmup_epochs: float = 0.0
    """Linear warm-up from lr/100, in epochs; fractions allowed."""
    min_lr: float = 0.0
    """Where cosine and plateau end."""
    milestones: tuple[int, ...] = ()
    """Steps at which multistep multiplies the rate by lr_decay."""
    lr_decay: float = 0.1
    """Factor of multistep and plateau."""
    patience: int = 5
    """Epochs without a better validation loss before plateau lowers the rate."""
    early_stop: int = 0
    """Stop after this many epochs without a better validation error; 0: never."""

    # Optimizer
    optimizer: str = "sgd"
    """Any timm optimizer: sgd (Nesterov), momentum, adam, adamw, rmsprop, lamb, ..."""
    momentum: float = 0.9
    """Momentum of sgd, momentum and rmsprop."""
    weight_decay: float = 1e-4
    """L2 weight decay."""
    decay_norm_and_bias: bool = True
    """Decay BN weights and biases too, as the paper does."""
    clip_grad: float | None = None
    """Largest norm of the gradient."""
    ema: float = 0.0
    """Decay of the averaged weights that are evaluated and saved as best; 0: off."""


@dataclass(frozen=True)
class NetworkOptions:
    """Overrides of a named network; None leaves the variant's own."""

    p: int | None = None
    """Units before and after each attention module's branches."""
    t: int | None = None
    """Units of the trunk branch."""
    r: int | None = None
    """Units between poolings of the mask branch."""
    modules: tuple[int, ...] | None = None
    """Attention modules of each stage."""
    widths: tuple[int, ...] | None = None
    """Channels of each stage."""
    mask_depths: tuple[int, ...] | None = None
    """Down-samplings in the mask branch of each stage."""
    unit: str | None = chosen_from(UNITS)
    mask_activation: str | None = chosen_from(MASK_ACTIVATIONS)
    mask_structure: str | None = chosen_from(MASK_STRUCTURES)
    learning: str | None = chosen_from(LEARNINGS)
    skip: bool | None = None
    """Skip paths in the mask branch."""
    stem: str | None = chosen_from(STEMS)
    dropout: float | None = None
    """Dropout before the classifier."""

    def network_overrides(self) -> dict[str, Any]:
        """The overrides of `create_model` that were given."""
        names = [field.name for field in fields(NetworkOptions)]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class MachineOptions:
    """What a run computes on."""

    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    precision: Precision = "auto"
    """auto: bf16 where the processor computes in it, else fp32; or fp32 | bf16 | fp16 (CUDA)."""
    compile: Switch = "auto"
    """torch.compile; auto turns it on where it pays (CUDA)."""
    channels_last: Switch = "auto"
    """Memory layout NHWC; auto turns it on wherever bf16 or CUDA is used, and on the CPU."""
    workers: int | None = None
    """Processes that decode large images; chosen from the cores by default."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    checkpoint_steps: int = 0
    """Save within an epoch every this many steps, besides at each epoch's end; 0: only there."""


@dataclass(frozen=True)
class OutputOptions:
    """Where a run is written and how it reports. Not part of what a checkpoint or config.yaml holds."""

    out: Path | None = None
    """Run folder; runs/<date-time>_<data>_<model> when left out."""
    json: bool = False
    """Print one JSON object at the end and nothing else to standard output."""
    debug: bool = False
    """Show tracebacks."""
