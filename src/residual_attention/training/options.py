"""Option groups of a run: data, loop, network (in the paper's terms), machine and output."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ..family.choices import LEARNINGS, MASK_ACTIVATIONS, MASK_STRUCTURES, STEMS, UNITS
from ..plugins import chosen_from

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Schedule = Literal["cosine", "linear", "multistep", "plateau", "constant"]
Freeze = Literal["none", "trunk"]
Switch = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class CommonOptions:
    """Options of every run: data, network, initial weights, seed."""

    data: str = ""
    """Data set."""
    model: str | None = None
    """Network (`ran models` lists them)."""
    init: str | None = None
    """Start from the weights of this MODEL; a classifier layer of another size starts from scratch. none: from scratch.
    By default, a folder of images starts from weights that ship."""
    trunk_weights: str | None = None
    """The trunk's weights: timm (the default with a tag), none (the default without), or a file or http(s) address."""
    seed: int = 0
    """Random seed; all randomness is a function of (seed, epoch, step, sample)."""


@dataclass(frozen=True)
class LoopOptions:
    """Schedule and optimizer."""

    # Schedule
    epochs: int | None = 15
    """Passes over the training images."""
    steps: int | None = None
    """Optimizer steps; overrides --epochs."""
    time: str | None = None
    """Train for about this long (45m, 2h30m), including evaluation and report. The number of epochs is derived from the
    speed measured before the first step; replaces --epochs and --steps."""
    min_steps: int = 0
    """Repeat a small data set within each epoch until the run has at least this many steps."""
    repeats: int | None = None
    """Passes over the training images per epoch; derived from --min-steps by default."""
    batch_size: int = 128
    """Images per optimizer step, over all processes and accumulation."""
    accumulate: int = 1
    """Split each batch into this many parts to save memory."""
    lr: float = 0.1
    """Peak learning rate for the given batch size."""
    schedule: Schedule = "cosine"
    """cosine | linear | multistep | plateau | constant."""
    warmup_epochs: float = 0.0
    """Linear warm-up from lr/100, in epochs; fractions allowed."""
    min_lr: float = 0.0
    """Lowest learning rate of cosine, linear and plateau."""
    milestones: tuple[int, ...] = ()
    """Steps at which multistep multiplies the learning rate by --lr-decay."""
    lr_decay: float = 0.1
    """Decay factor of multistep and plateau."""
    patience: int = 5
    """Epochs without a better validation loss before plateau lowers the learning rate."""
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
    """Maximum gradient norm."""
    ema: float = 0.0
    """Decay of the averaged weights that are evaluated and saved as best; 0: off."""


@dataclass(frozen=True)
class NetworkOptions:
    """Overrides of a named network; None keeps the variant's value."""

    trunk: str | None = None
    """Add attention to this convolutional network from timm (`ran models --trunks` lists them). With a tag, as in
    resnet50.a1_in1k, start from timm's weights. Or local-dir:FOLDER."""
    trunk_args: tuple[str, ...] | None = None
    """Further arguments of the trunk, key=value, as timm.create_model takes them."""
    p: int | None = None
    """Units before and after each attention module's branches."""
    t: int | None = None
    """Units in the trunk branch."""
    r: int | None = None
    """Units between poolings in the mask branch."""
    modules: tuple[int, ...] | None = None
    """Attention modules per stage."""
    widths: tuple[int, ...] | None = None
    """Channels per stage."""
    mask_depths: tuple[int, ...] | None = None
    """Downsampling steps in the mask branch, per stage."""
    unit: str | None = chosen_from(UNITS)
    mask_widths: tuple[int, ...] | None = None
    """Channels inside the mask branch, per stage (--trunk only)."""
    mask_start: float | None = None
    """Initial bias of the masks' last convolution; -5 by default (--trunk only)."""
    mask_activation: str | None = chosen_from(MASK_ACTIVATIONS)
    mask_structure: str | None = chosen_from(MASK_STRUCTURES)
    learning: str | None = chosen_from(LEARNINGS)
    skip: bool | None = None
    """Skip paths in the mask branch."""
    stem: str | None = chosen_from(STEMS)
    dropout: float | None = None
    """Dropout before the classifier."""

    def network_overrides(self) -> dict[str, Any]:
        """The overrides that were given, as arguments of `create_model`."""
        names = [field.name for field in fields(NetworkOptions)]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class TransferOptions:
    """How a network with trained weights goes on learning."""

    freeze: Freeze = "none"
    """none | trunk: at first, train only the masks and the classifier."""
    freeze_epochs: int | None = None
    """Epochs for which the trunk stays frozen; all of them by default."""
    layer_decay: float | None = None
    """Learning rate of each layer as a share of the next one's (timm's layer decay); classifier and masks of a
    trunk learn at the full rate."""


@dataclass(frozen=True)
class MachineOptions:
    """Device, precision and memory."""

    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    precision: Precision = "auto"
    """auto | fp32 | bf16 | fp16 (CUDA); auto: bf16 where the hardware has it, else fp16 on CUDA, fp32 elsewhere."""
    compile: Switch = "auto"
    """torch.compile: a minute or two at the start, then faster steps on CUDA; auto leaves it off."""
    cuda_graphs: Switch = "auto"
    """Launch the training pass as a whole instead of kernel by kernel; auto turns it on for CUDA where possible."""
    channels_last: Switch = "auto"
    """NHWC memory layout; auto turns it on."""
    fused: Switch = "auto"
    """Update all parameters in one kernel; auto turns it on for PyTorch's own optimizers."""
    workers: int | None = None
    """Processes that decode large images; one per core by default, at most 8."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    checkpoint_steps: int = 0
    """Also save every this many steps within an epoch; 0: only at the end of each epoch."""


@dataclass(frozen=True)
class OutputOptions:
    """Where a run is written and how it reports. Not stored in checkpoints or config.yaml."""

    out: Path | None = None
    """Run folder; runs/<date-time>_<data>_<model> by default."""
    resume: Literal["no", "auto"] = "no"
    """auto: continue the run in --out if there is one, for restarts on a cluster; no: refuse the folder."""
    track: Literal["wandb", "mlflow", "trackio"] | None = None
    """Also log to wandb, mlflow or trackio (install the extra of that name); TensorBoard is always written."""
    json: bool = False
    """Print one JSON object to standard output at the end, and nothing else."""
    debug: bool = False
    """Show tracebacks."""
