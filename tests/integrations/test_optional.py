"""Tools that this project does not need: `pip install 'residual-attention[integrations]'` installs them.

Each test skips without its package. They are slow because of their imports.
"""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import residual_attention.models  # noqa: F401 (registers the names with timm)
from residual_attention import create_model, load

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # their warnings are theirs


@pytest.fixture(scope="module")
def model():
    return load("attention56_cifar.cifar10")


@pytest.fixture
def small() -> nn.Module:
    return create_model("attention56_cifar", 2, widths=(16, 16, 16), mask_depths=1)


@pytest.fixture
def batches() -> DataLoader:
    return DataLoader(TensorDataset(torch.randn(8, 3, 16, 16), torch.arange(8) % 2), 4)


def test_grad_cam(model):
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam import GradCAM

    with GradCAM(model, [model.norm]) as cam:
        assert cam(torch.randn(2, 3, 32, 32)).shape == (2, 32, 32)


def test_lightning(small, batches, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = small

        def training_step(self, batch, _index):
            return F.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=2, default_root_dir=tmp_path, **quiet)
    trainer.fit(Module(), batches)
    assert trainer.global_step == 2


def test_accelerate(small, batches):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    network, optimizer, loader = accelerator.prepare(small, torch.optim.SGD(small.parameters(), 0.01), batches)
    for images, labels in loader:
        accelerator.backward(F.cross_entropy(network(images), labels))
        optimizer.step()
        optimizer.zero_grad()
    assert torch.isfinite(network(torch.randn(2, 3, 16, 16))).all()


def test_ignite(small, batches):
    engine = pytest.importorskip("ignite.engine")
    optimizer = torch.optim.SGD(small.parameters(), 0.01)
    trainer = engine.create_supervised_trainer(small, optimizer, F.cross_entropy)
    assert trainer.run(batches, max_epochs=1).iteration == 2


def test_skorch(small):
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNetClassifier(small, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0)
    net.fit(torch.randn(8, 3, 16, 16).numpy(), (torch.arange(8) % 2).numpy())
    assert net.predict(torch.randn(3, 3, 16, 16).numpy()).shape == (3,)


@pytest.mark.parametrize("name", ["attention56", "attention_trunk"])
def test_segmentation_models(name):
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.Unet(f"tu-{name}", encoder_weights=None, classes=2).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 64, 96)).shape == (1, 2, 64, 96)


def test_ttach(model):
    ttach = pytest.importorskip("ttach")
    wrapped = ttach.ClassificationTTAWrapper(model, ttach.aliases.flip_transform())
    assert wrapped(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_fvcore(model):
    fvcore = pytest.importorskip("fvcore.nn")
    counted = fvcore.FlopCountAnalysis(model, torch.randn(1, 3, 32, 32))
    counted.unsupported_ops_warnings(False)
    convolutions = counted.by_operator()["conv"] + counted.by_operator()["linear"]
    assert convolutions == pytest.approx(0.123e9, rel=0.01)


def test_torchinfo(model):
    torchinfo = pytest.importorskip("torchinfo")
    summary = torchinfo.summary(model, (1, 3, 32, 32), verbose=0)
    assert summary.total_params == sum(p.numel() for p in model.parameters())


def test_ptflops(model):
    ptflops = pytest.importorskip("ptflops")
    macs, _ = ptflops.get_model_complexity_info(
        model, (3, 32, 32), as_strings=False, print_per_layer_stat=False, backend="pytorch", verbose=False
    )
    assert macs == pytest.approx(0.123e9, rel=0.1)


def test_thop():
    thop = pytest.importorskip("thop")
    macs, _ = thop.profile(load("attention56_cifar.cifar10"), inputs=(torch.randn(1, 3, 32, 32),), verbose=False)
    assert macs == pytest.approx(0.123e9, rel=0.1)


def test_torchao():
    quantization = pytest.importorskip("torchao.quantization")
    network = load("attention56_cifar.cifar10")
    quantization.quantize_(network, quantization.Int8WeightOnlyConfig())
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_torchview(small):
    torchview = pytest.importorskip("torchview")
    pytest.importorskip("graphviz")
    graph = torchview.draw_graph(small.eval(), input_size=(1, 3, 16, 16), device="cpu")
    assert graph.num_nodes > 10


def test_kornia(model):
    kornia = pytest.importorskip("kornia.augmentation")
    images = kornia.AugmentationSequential(kornia.RandomHorizontalFlip(p=1.0))(torch.rand(2, 3, 32, 32))
    assert model(images).shape == (2, 10)


def test_timm_feature_levels_are_what_decoders_want():
    assert timm.create_model("attention56", features_only=True).feature_info.reduction() == [2, 4, 8, 16, 32]
