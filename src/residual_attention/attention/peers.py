"""Other methods' maps, by the libraries that are known for them: captum, and grad-cam where it is installed.

All but integrated gradients read the last feature map.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO

import torch
from torch import Tensor

from ..family.staged import StagedNetwork

IG_STEPS = 20  # gradients of an integrated one, from the mean colour to the image
SCORE_CAM_BATCH = 256
Method = Callable[[StagedNetwork, Tensor, Tensor], Tensor]  # model, images, targets -> maps
PEERS = ("Grad-CAM", "integrated gradients", "Grad-CAM++", "LayerCAM", "Score-CAM")


def grad_cam(model: StagedNetwork, images: Tensor, targets: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017) at the last feature map, by captum: (B, h, w), positive part.

    Raises ModuleNotFoundError without captum, which the extra ``measure`` installs.
    """
    from captum.attr import LayerGradCam

    maps = LayerGradCam(model, model.last_layer).attribute(images, target=targets, relu_attributions=True)
    assert isinstance(maps, Tensor)
    return maps[:, 0].detach()


def integrated_gradients(model: StagedNetwork, images: Tensor, targets: Tensor) -> Tensor:
    """Integrated gradients (Sundararajan et al., ICML 2017) by captum: (B, S, S), absolute, summed over channels."""
    from captum.attr import IntegratedGradients

    at_once = max(1, len(images))
    found = IntegratedGradients(model).attribute(
        images, target=targets, n_steps=IG_STEPS, internal_batch_size=at_once, method="riemann_trapezoid"
    )
    assert isinstance(found, Tensor)
    return found.abs().sum(dim=1).detach().float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Score-CAM draws a progress bar for each image."""
    with redirect_stderr(StringIO()):
        yield


def library_cam(name: str) -> Method:
    """Grad-CAM++, LayerCAM or Score-CAM, by grad-cam: (B, S, S) in [0, 1]."""

    def maps(model: StagedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        import pytorch_grad_cam as library  # pyright: ignore[reportMissingImports]
        from pytorch_grad_cam.utils.model_targets import (  # pyright: ignore[reportMissingImports]
            ClassifierOutputTarget,
        )

        kind = {"Grad-CAM++": library.GradCAMPlusPlus, "LayerCAM": library.LayerCAM, "Score-CAM": library.ScoreCAM}
        wanted = [ClassifierOutputTarget(int(target)) for target in targets]
        with kind[name](model=model, target_layers=[model.last_layer]) as cam, _quiet():
            cam.batch_size = SCORE_CAM_BATCH
            return torch.from_numpy(cam(input_tensor=images, targets=wanted))  # type: ignore[arg-type]

    return maps


def grad_cam_is_installed() -> bool:
    """Whether the package grad-cam is there, with the OpenCV that it needs."""
    return find_spec("pytorch_grad_cam") is not None and find_spec("cv2") is not None


def peer_maps(
    model: StagedNetwork, images: Tensor, targets: Tensor, *, score_cam: bool = False
) -> OrderedDict[str, Tensor]:
    """Each installed peer's maps of preprocessed ``images`` (B, C, S, S) for ``targets`` (B,).

    ``score_cam``: also Score-CAM, which runs the network once for each channel of the last feature map.
    """
    methods: dict[str, Method] = {"Grad-CAM": grad_cam, "integrated gradients": integrated_gradients}
    if grad_cam_is_installed():
        names = ("Grad-CAM++", "LayerCAM", *(["Score-CAM"] if score_cam else []))
        methods |= {name: library_cam(name) for name in names}
    return OrderedDict((name, method(model, images, targets)) for name, method in methods.items())
