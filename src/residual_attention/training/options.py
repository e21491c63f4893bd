"""Options of a run that stand on their own: of the network, by the paper's terms, and of the machine."""

from dataclasses import dataclass, fields
from typing import Any, Literal

Unit = Literal["preact", "resnext", "inception", "vgg", "dense"]
MaskActivation = Literal["mixed", "channel", "spatial"]
MaskStructure = Literal["encoder_decoder", "local"]
Learning = Literal["residual", "naive"]
StemName = Literal["imagenet", "cifar", "cifar_wide", "cifar_wide_nopool"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Switch = Literal["auto", "on", "off"]


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
    unit: Unit | None = None
    """preact | resnext | inception (all units), vgg | dense (trunk alone)."""
    mask_activation: MaskActivation | None = None
    """mixed | channel | spatial."""
    mask_structure: MaskStructure | None = None
    """encoder_decoder | local."""
    learning: Learning | None = None
    """residual: (1 + M) * T | naive: M * T."""
    skip: bool | None = None
    """Skip paths in the mask branch."""
    stem: StemName | None = None
    """imagenet | cifar | cifar_wide | cifar_wide_nopool."""
    dropout: float | None = None
    """Dropout before the classifier."""

    def network_overrides(self) -> dict[str, Any]:
        """The overrides of `create_model` that were given."""
        names = [field.name for field in fields(NetworkOptions)]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class MachineOptions:
    """What a run computes on, and how it tells."""

    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    precision: Precision = "auto"
    """auto: bf16 where the processor computes in it, else fp32; or fp32 | bf16 | fp16 (CUDA)."""
    compile: Switch = "auto"
    """torch.compile; auto turns it on where it pays (CUDA)."""
    channels_last: Switch = "auto"
    """Memory layout NHWC; auto turns it on wherever bf16 or CUDA is used, and on the CPU."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    checkpoint_steps: int = 0
    """Save within an epoch every this many steps, besides at each epoch's end; 0: only there."""
    json: bool = False
    """Print one JSON object at the end and nothing else to standard output."""
    debug: bool = False
    """Show tracebacks."""
