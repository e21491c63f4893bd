"""Other people's tools on our networks: those that this project installs anyway. docs/integrations.md lists them."""

import copy
import pickle

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import residual_attention.models  # noqa: F401 (registers the names with timm)
from residual_attention import attention_masks, create_model, load

pytestmark = pytest.mark.slow  # run by `make test-slow`

SHIPPED = "attention56_cifar.cifar10"


@pytest.fixture(scope="module")
def model():
    return load(SHIPPED)


@pytest.fixture
def trunk() -> nn.Module:
    """A small trunk with masks, untrained."""
    torch.manual_seed(0)
    return create_model("attention_trunk", 4, trunk="test_convnext").eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def close(one: torch.Tensor, other: torch.Tensor, atol: float = 1e-4) -> bool:
    return torch.allclose(one, other, atol=atol * max(1.0, other.abs().max().item()))


# timm


def test_timm_pretrained_tag(model, images):
    theirs = timm.create_model(SHIPPED, pretrained=True).eval()
    assert torch.equal(theirs(images), model(images))
    assert "attention92_cifar.cifar10" in timm.list_pretrained("attention92*")
    assert timm.create_model("attention56_cifar.cifar100", pretrained=True).num_classes == 100


def test_timm_pretrained_with_other_classes():
    assert timm.create_model(SHIPPED, pretrained=True, num_classes=5).num_classes == 5


def test_timm_features_only(images):
    maps = timm.create_model(SHIPPED, pretrained=True, features_only=True, out_indices=(1, 2, 3))(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]


@pytest.mark.parametrize("name", ["attention56", "attention_trunk"])
def test_timm_pyramid_halves_each_time(name):
    """Decoders want reductions of 2, 4, 8, 16 and 32."""
    with torch.device("meta"):
        network = timm.create_model(name, features_only=True)
        maps = network(torch.empty(1, 3, 64, 64))
    assert network.feature_info.reduction() == [2, 4, 8, 16, 32]
    assert [64 // m.shape[-1] for m in maps] == [2, 4, 8, 16, 32]


def test_timm_data_config(model, trunk):
    data = timm.data.resolve_model_data_config(model)
    assert (data["input_size"], data["mean"]) == ((3, 32, 32), model.preprocess.mean)
    transform = timm.data.create_transform(**data, is_training=False)
    assert transform(Image.new("RGB", (50, 40))).shape == (3, 32, 32)
    assert timm.data.resolve_model_data_config(create_model("attention92_cifar"))["input_size"] == (3, 32, 32)
    assert timm.data.resolve_model_data_config(trunk)["input_size"] == (3, 160, 160)


@pytest.mark.parametrize("method, last", [("hook", ""), ("fx", ".2.sigmoid")])
def test_timm_attention_extract(model, images, method, last):
    from timm.utils import AttentionExtract

    names = [f"stages.{i}.1.mask{last}" for i in range(3)]
    found = AttentionExtract(model, names=names, method=method)(images)
    for name, mask in attention_masks(model, images).items():
        assert close(found[f"{name}.mask{last}"], mask)


def test_timm_layer_decay(trunk):
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(trunk, layer_decay=0.5)
    assert len({group["lr_scale"] for group in groups}) > 4


def test_timm_ema(trunk, images):
    from timm.utils import ModelEmaV3

    average = ModelEmaV3(trunk, decay=0.5)
    average.update(trunk, step=1)
    assert torch.isfinite(average.module(images)).all()


def test_timm_reset_classifier(images):
    ours = load(SHIPPED)
    ours.reset_classifier(4)
    assert ours(images).shape == (2, 4)
    assert ours.classes == []


# torch


def test_torch_compile(model, images):
    torch.compiler.reset()
    assert close(torch.compile(model, fullgraph=True, backend="eager")(images), model(images))


@pytest.mark.parametrize("network", ["model", "trunk"])
def test_torch_export(request, network, images):
    ours = request.getfixturevalue(network)
    assert close(torch.export.export(ours, (images,)).module()(images), ours(images))


@pytest.mark.parametrize("network", ["model", "trunk"])
def test_torch_fx(request, network, images):
    ours = request.getfixturevalue(network)
    graph = torch.fx.symbolic_trace(ours)
    assert torch.equal(graph(images), ours(images))
    assert graph(torch.randn(1, 3, 48, 40)).shape == ours(torch.randn(1, 3, 48, 40)).shape


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torch_jit_trace(model, images):
    assert close(torch.jit.trace(model, images)(images), model(images))


def test_torch_func_gradients_of_each_sample(model, images):
    from torch.func import functional_call, grad, vmap

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(weights, image, label):
        return F.cross_entropy(functional_call(model, (weights, buffers), image[None]), label[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, torch.tensor([1, 2]))
    assert found["head.fc.weight"].shape == (2, 10, 256)


def test_torch_autocast(model, images):
    with torch.autocast("cpu", torch.bfloat16):
        assert (model(images).argmax(1) == model(images).argmax(1)).all()


def test_torch_averaged_model_and_update_bn(trunk, images):
    from torch.optim.swa_utils import AveragedModel, update_bn

    average = AveragedModel(trunk)
    average.update_parameters(trunk)
    update_bn([images, images], average)
    assert average(images).shape == (2, 4)


def test_torch_pruning(images):
    from torch.nn.utils import prune

    ours = load(SHIPPED)
    prune.global_unstructured(
        [(m, "weight") for m in ours.modules() if isinstance(m, nn.Conv2d)], prune.L1Unstructured, amount=0.2
    )
    assert torch.isfinite(ours(images)).all()


def test_torch_flop_counter(model, images):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(images[:1])
    assert counter.get_total_flops() // 2 == pytest.approx(0.123e9, rel=0.01)


def test_torch_copies_and_pickles(trunk, images):
    for other in (copy.deepcopy(trunk), pickle.loads(pickle.dumps(trunk))):
        assert torch.equal(other(images), trunk(images))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torch_tensorboard_graph(model, images, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(model, images)


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_torch_ddp(one_process, images):
    from torch.nn.parallel import DistributedDataParallel

    network = create_model("attention_trunk", 4, trunk="mobilenetv3_small_050").train()
    DistributedDataParallel(network)(images).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_torch_fsdp2(one_process, images):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    network = create_model("attention56_cifar")
    mesh = init_device_mesh("cpu", (1,))
    for stage in network.stages:
        fully_shard(stage, mesh=mesh)
    fully_shard(network, mesh=mesh)
    network(images).sum().backward()
    assert network.head.fc.weight.grad is not None


# torchvision


def test_torchvision_feature_extractor(model, images):
    from torchvision.models.feature_extraction import create_feature_extractor

    found = create_feature_extractor(model, {"stages.0.1.mask": "mask", "stages.2": "map"})(images)
    assert close(found["mask"], attention_masks(model, images)["stages.0.1"])
    assert found["map"].shape == (2, 256, 8, 8)


class Pyramid(nn.Module):
    """torchvision's feature pyramid on maps that torchvision extracts."""

    out_channels = 32

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor
        from torchvision.ops import FeaturePyramidNetwork

        levels = {f"stages.{i}": str(i) for i in range(3)}
        widths = [info["num_chs"] for info in network.feature_info if info["module"] in levels]
        self.body = create_feature_extractor(network, levels)
        self.fpn = FeaturePyramidNetwork(widths, self.out_channels)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.fpn(self.body(images))


def test_torchvision_detector_on_extracted_features():
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    anchors = AnchorGenerator(((16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 3)
    body = Pyramid(create_model("attention_trunk", 0, trunk="test_convnext"))
    detector = FasterRCNN(body, 3, rpn_anchor_generator=anchors, min_size=96, max_size=128).eval()
    assert set(detector([torch.rand(3, 96, 120)])[0]) == {"boxes", "labels", "scores"}


# Explanations, measures, other libraries


def test_captum_attributes(model, images):
    captum = pytest.importorskip("captum.attr")
    found = captum.IntegratedGradients(model).attribute(images, target=1, n_steps=4)
    assert found.shape == images.shape
    assert captum.LayerGradCam(model, model.norm).attribute(images, target=1).shape == (2, 1, 8, 8)


def test_torchmetrics_scores(model, images):
    from torchmetrics.classification import MulticlassAccuracy

    score = MulticlassAccuracy(10, average="micro")
    assert score(model(images), model(images).argmax(1)) == 1


def test_scikit_learn_on_its_features(model):
    from sklearn.neighbors import KNeighborsClassifier

    images = torch.randn(20, 3, 32, 32)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images), pre_logits=True).numpy()
    labels = np.arange(20) % 2
    assert KNeighborsClassifier(1).fit(features, labels).score(features, labels) == 1


def test_numpy_and_pillow_images(model):
    found = model.predict([np.zeros((40, 30, 3), np.uint8), Image.new("L", (9, 9))], top_k=2)
    assert [len(each) for each in found] == [2, 2]
    assert model.predict(Image.new("RGB", (9, 9)))[0][0][0] in model.classes
    with pytest.raises(ValueError, match=r"must be uint8 .*not float64 \(4, 4, 3\)"):
        model.preprocess(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="not list"):
        model.preprocess([1])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_onnx_engines(engine, model, images, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip(engine)
    from residual_attention import record_masks
    from residual_attention.export.onnx import export_onnx

    for masks in (False, True):
        export_onnx(model, model.card, path := tmp_path / f"{masks}.onnx", image_size=32, in_chans=3, masks=masks)
        exported = load(path, engine=engine, precision="fp32" if engine == "openvino" else "auto")
        assert close(exported(images), model(images), 1e-3)
        if not masks:
            with pytest.raises(ValueError, match="exported without its masks"), record_masks(exported):
                pass
            continue
        with record_masks(exported) as found:
            exported(images)
        assert list(found.masks) == ["stages.0.1", "stages.1.1", "stages.2.1"]


def test_the_examples_in_help_run():
    import doctest
    import importlib

    for name in ("residual_attention.checkpoints.load", "residual_attention.trunks.create"):
        assert doctest.testmod(importlib.import_module(name)).failed == 0
