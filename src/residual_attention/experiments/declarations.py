"""The comparisons: one declaration per experiment, with the figures of the paper and of others for each row.

Errors are top-1, in percent, on the test split unless a field says otherwise. Unpublished figures are None.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One setting: a network, its changes from the defaults, and what others report for it.

    ``test_px``: another image size (side in pixels) at which the test split is evaluated. ``deep``: too deep for a
    protocol whose cells take a minute.
    """

    label: str
    model: str
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of `TrainConfig`
    reported_error_pct: float | None = None
    _: KW_ONLY
    data: str = "cifar10"
    test_px: int | None = None
    deep: bool = False
    reported_top5_error_pct: float | None = None
    reported_train_error_pct: float | None = None
    reported_val_error_pct: float | None = None
    reported_time_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """``question``: what the rows should answer; ``source``: where the reported figures come from."""

    name: str
    title: str
    source: str
    question: str
    rows: tuple[Row, ...]
    recipe: str | None = None  # replaces the protocol's recipe if the source's recipe is the point
    responses: bool = False  # also measure the mean absolute response of each stage


def _learning_by_depth() -> tuple[Row, ...]:
    reported = {56: (5.52, 5.89), 92: (4.99, 5.35), 128: (4.44, 5.57), 164: (4.31, 7.18)}
    return tuple(
        Row(f"Attention-{depth}, {learning} learning", f"attention{depth}_cifar", {"learning": learning}, error)
        for depth, errors in reported.items()
        for learning, error in zip(("residual", "naive"), errors, strict=True)
    )


def _label_noise() -> tuple[Row, ...]:
    reported = {10: (5.15, 5.93), 30: (5.79, 6.61), 50: (7.27, 8.35), 70: (15.75, 17.21)}
    networks = (("Attention-92", "attention92_cifar", "residual"), ("ResNet-164", "attention164_cifar", "plain"))
    return tuple(
        Row(f"{label}, {rate} % noise", model, {"learning": learning, "label_noise": rate / 100}, error)
        for rate, errors in reported.items()
        for (label, model, learning), error in zip(networks, errors, strict=True)
    )


def _label_noise_at_equal_depth() -> tuple[Row, ...]:
    networks = (("Attention-56", "residual"), ("ResNet-56", "plain"))
    return tuple(
        Row(f"{label}, {rate} % noise", "attention56_cifar", {"learning": learning, "label_noise": rate / 100})
        for rate in (10, 50)
        for label, learning in networks
    )


def _depth_by_data() -> tuple[Row, ...]:
    reported = {56: (5.52, None), 92: (4.99, 21.71), 236: (4.14, 21.16), 452: (3.90, 20.45)}
    return tuple(
        Row(
            f"Attention-{depth}, {data.upper().replace('CIFAR', 'CIFAR-')}",
            f"attention{depth}_cifar",
            {},
            error,
            data=data,
            deep=depth > 236,
        )
        for depth, errors in reported.items()
        for data, error in zip(("cifar10", "cifar100"), errors, strict=True)
    )


def _wide_learning() -> tuple[Row, ...]:
    reported = {56: (5.28, 9.03), 92: (36.2, 40.05)}
    return tuple(
        Row(f"Attention-{depth} wide, {learning}", f"attention{depth}_cifar_wide", {"learning": learning}, error)
        for depth, errors in reported.items()
        for learning, error in zip(("residual", "naive"), errors, strict=True)
    )


def _wide_errors() -> tuple[Row, ...]:
    reported = {56: (3.27, 5.28, 337), 92: (36.1, 33.19, 403)}
    return tuple(
        Row(
            f"Attention-{depth} wide",
            f"attention{depth}_cifar_wide",
            reported_train_error_pct=train,
            reported_val_error_pct=val,
            reported_time_s=60.0 * minutes,
        )
        for depth, (train, val, minutes) in reported.items()
    )


def _imagenet() -> tuple[Row, ...]:
    reported = (
        ("Attention-56", "attention56", None, 21.76, 5.9),
        ("Attention-56, as a re-implementation", "attention56", None, 21.03, 5.47),
        ("AttentionNeXt-56", "attentionnext56", None, 21.2, 5.6),
        ("AttentionInception-56", "attentioninception56", None, 20.36, 5.29),
        ("Attention-92, tested at 320 px", "attention92", 320, 19.5, 4.8),
    )
    return tuple(
        Row(label, model, {}, top1, data="imagenet", test_px=pixels, reported_top5_error_pct=top5)
        for label, model, pixels, top1, top5 in reported
    )


_DEEPEST = {"modules": (6, 6, 6), "p": 2, "t": 4, "r": 3}
_FIFTY_SIX = "attention56_cifar"
_PAPER = "Wang et al., CVPR 2017"
_TF2 = "a TensorFlow 2 re-implementation"

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        Experiment(
            name="learning",
            title="Attention residual learning against naive learning, by depth",
            source=f"{_PAPER}, section 4.1, attention residual learning",
            question="Is H = (1 + M) * T better than H = M * T, and does the gap grow with depth?",
            rows=_learning_by_depth(),
            responses=True,
        ),
        Experiment(
            name="mask_activation",
            title="Mixed, channel and spatial attention",
            source=f"{_PAPER}, section 3.3, table 1",
            question="Is the mask best left without a constraint (sigmoid of each value)?",
            rows=tuple(
                Row(f"{kind} attention", _FIFTY_SIX, {"mask_activation": kind}, error)
                for kind, error in (("mixed", 5.52), ("channel", 6.24), ("spatial", 6.33))
            ),
        ),
        Experiment(
            name="mask_structure",
            title="Encoder-decoder mask against local convolutions",
            source=f"{_PAPER}, section 4.1, mask structures",
            question="Does the mask need the bottom-up top-down structure?",
            rows=tuple(
                Row(label, _FIFTY_SIX, {"mask_structure": structure}, error)
                for label, structure, error in (
                    ("encoder and decoder", "encoder_decoder", 5.52),
                    ("local convolutions", "local", 6.48),
                )
            ),
        ),
        Experiment(
            name="label_noise",
            title="Noisy labels: Attention-92 against the pre-activation ResNet-164",
            source=f"{_PAPER}, section 4.1, noisy labels",
            question="Do masks help a network to withstand wrong labels?",
            rows=_label_noise(),
        ),
        Experiment(
            name="label_noise_56",
            title="Noisy labels: Attention-56 against a residual network as deep, without masks",
            source="ours; the paper compares networks of other depths",
            question="The same question at a depth that a CPU can train.",
            rows=_label_noise_at_equal_depth(),
        ),
        Experiment(
            name="depth",
            title="Depth on CIFAR-10 and CIFAR-100",
            source=f"{_PAPER}, section 4.1, comparison with others",
            question="Does the error fall with depth?",
            rows=_depth_by_data(),
        ),
        Experiment(
            name="wide_learning",
            title="Wide Attention-56 and -92: residual against naive learning",
            source=f"{_TF2} (README)",
            question="Does Attention-92 train at all? It did not in the re-implementation.",
            rows=_wide_learning(),
            recipe="classic",
        ),
        Experiment(
            name="wide_errors",
            title="Wide Attention-56 and -92: training and validation error, training time",
            source=f"{_TF2} (README), times on one P100",
            question="How far apart are training and validation, and how long does it take?",
            rows=_wide_errors(),
            recipe="classic",
        ),
        Experiment(
            name="optimizers",
            title="Optimizers",
            source="ours; the re-implementation's recipe compares SGD, Adam and RMSprop without figures",
            question="Which optimizer is best at its usual learning rate?",
            rows=tuple(
                Row(name, _FIFTY_SIX, {"optimizer": optimizer, **({} if lr is None else {"lr": lr})})
                for name, optimizer, lr in (
                    ("SGD, Nesterov momentum", "sgd", None),
                    ("Adam", "adam", 1e-3),
                    ("AdamW", "adamw", 1e-3),
                    ("RMSprop", "rmsprop", 1e-3),
                )
            ),
        ),
        Experiment(
            name="trunks",
            title="Trunks: the attention module around other units",
            source="ours; the paper's ImageNet networks use residual, ResNeXt and Inception units",
            question="Does the attention module work with any trunk?",
            rows=tuple(
                Row(unit, _FIFTY_SIX, {"unit": unit}) for unit in ("preact", "resnext", "inception", "vgg", "dense")
            ),
        ),
        Experiment(
            name="best",
            title="The best public re-implementations' network",
            source="a public re-implementation with mixup, cutout, cosine, no decay of BN and biases; another one, "
            "with mixup alone, has 3.16 % with the first network",
            question="How far does the modern recipe go?",
            rows=(
                Row("Attention-92 wide, no pool", "attention92_cifar_wide_nopool", {}, 2.86),
                Row("Attention-452 wide, no pool", "attention92_cifar_wide_nopool", _DEEPEST, 2.43, deep=True),
            ),
        ),
        Experiment(
            name="imagenet",
            title="ImageNet: one central crop",
            source=f"{_PAPER}, section 4.2; for the second row a public re-implementation",
            question="Does the error fall with other units and with depth?",
            rows=_imagenet(),
        ),
    )
}
