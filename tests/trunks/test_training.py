"""A run on a trunk: its preprocessing, freezing, rates and resuming; and what reads the run afterwards."""

import signal
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import residual_attention.training.loop as loop
from residual_attention import attention_masks, load
from residual_attention.checkpoints import read_card, read_checkpoint
from residual_attention.classification.config import TrainConfig
from residual_attention.cli.main import main
from residual_attention.cli.train import configuration
from residual_attention.tasks import resume, train
from residual_attention.training.interrupt import Interrupted
from residual_attention.training.optimization import Schedule, build_optimizer
from residual_attention.trunks.network import TrunkNetwork

pytestmark = pytest.mark.slow  # run by `make test-slow`

TINY = "test_convnext"
SHORT = [
    "--image-size",
    "64",
    "--epochs",
    "2",
    "--min-steps",
    "0",
    "--batch-size",
    "8",
    "--precision",
    "fp32",
    "--workers",
    "0",
    "--ema",
    "0",
    "--json",
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    save_file(timm.create_model(TINY).state_dict(), path := tmp_path_factory.mktemp("w") / "tiny.safetensors")
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory, write_image_folder) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("data") / "photos", classes=2, each=12, size=80)


@pytest.fixture(scope="module")
def run(photos, weights, tmp_path_factory) -> Path:
    """Two epochs, the trunk frozen in the first."""
    out = tmp_path_factory.mktemp("runs") / "run"
    flags = ["--trunk", TINY, "--trunk-weights", str(weights), "--freeze", "trunk", "--freeze-epochs", "1"]
    assert main(["train", str(photos), *flags, *SHORT, "--out", str(out)]) == 0
    return out


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in read_checkpoint(run / "checkpoints/last.safetensors")[0].items() if k.startswith("model.")}


def test_the_card_describes_the_network_and_the_trunks_preprocessing(run):
    card = read_card(run / "checkpoints/best.safetensors")
    assert card.model == "attention_trunk"
    assert card.overrides["trunk"] == TINY
    assert card.overrides["mask_depths"] == [2, 1, 0]
    cfg = timm.get_pretrained_cfg(TINY)
    assert (card.preprocess.mean, card.preprocess.crop_pct) == (cfg.mean, cfg.crop_pct)
    assert card.config["layer_decay"] == 0.75
    assert card.config["recipe"] == "finetune"


def test_it_loads_and_timm_knows_its_input(run):
    model = load(run)
    assert isinstance(model, TrunkNetwork)
    assert list(attention_masks(model, torch.randn(1, 3, 64, 64))) == ["stages.0.1", "stages.1.1", "stages.2.1"]
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 64, 64)


def test_what_reads_a_run_reads_this_one(run, photos, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    image = str(photos / "class00" / "0.png")
    assert main(["predict", str(run), image]) == 0
    assert main(["attend", str(run), image, "--out", str(tmp_path / "look")]) == 0
    assert main(["eval", str(run)]) == 0
    assert main(["export", str(run), str(tmp_path / "m.onnx"), "--masks"]) == 0
    assert main(["attend", str(tmp_path / "m.onnx"), image, "--out", str(tmp_path / "onnx"), "--reading", "mean"]) == 0
    assert main(["export", str(run), f"local-dir:{tmp_path / 'hub'}"]) == 0
    assert main(["predict", f"local-dir:{tmp_path / 'hub'}", image]) == 0
    import residual_attention.models  # noqa: F401

    theirs, ours = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval(), load(run)
    with torch.no_grad():
        images = torch.randn(2, 3, 64, 64)
        assert torch.equal(theirs(images), ours(images))
    assert "error" not in capsys.readouterr().err


def test_the_demo_slides_over_its_stages(run, photos):
    from residual_attention.demo.session import module_names, open_session, overlay

    model = load(run)
    session = open_session(model, photos / "class00" / "0.png")
    assert module_names(model) == session.modules == ["stages.0.1", "stages.1.1", "stages.2.1"]
    assert overlay(session, 2, "class")[1].startswith("High level (stages.2.1): 64 channels")


def test_a_frozen_trunk_does_not_change_and_the_masks_do(photos, weights, tmp_path):
    flags = [str(photos), "--trunk", TINY, "--trunk-weights", str(weights), *SHORT, "--steps", "2"]
    runs = []
    for name, extra in (("frozen", ["--freeze", "trunk"]), ("free", [])):
        config = configuration([*flags, *extra, "--out", str(tmp_path / name)])
        train(config)
        runs.append(tensors(tmp_path / name))
    frozen, free = runs
    given = timm.create_model(TINY, checkpoint_path=str(weights)).state_dict()
    trunk = {k: v for k, v in frozen.items() if ".mask." not in k and ".head.head.fc" not in k}
    by_value = {tuple(v.flatten()[:9].tolist()) for v in given.values()}
    assert all(tuple(v.flatten()[:9].tolist()) in by_value for v in trunk.values())
    assert not all(tuple(v.flatten()[:9].tolist()) in by_value for k, v in free.items() if k in trunk)
    assert any(v.any() for k, v in frozen.items() if k.endswith("mask.2.2.0.bias"))


def test_a_stopped_run_ends_as_one_that_was_not(run, photos, weights, tmp_path, monkeypatch):
    flags = ["--trunk", TINY, "--trunk-weights", str(weights), "--freeze", "trunk", "--freeze-epochs", "1"]
    config = configuration([str(photos), *flags, *SHORT, "--out", str(tmp_path / "stopped")])
    step = loop.train_step

    def stopping(job, state, batch):
        if state.progress.step == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(job, state, batch)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", stopping)
        with pytest.raises(Interrupted):
            train(config)
    weights.rename(moved := weights.with_suffix(".moved"))  # no longer needed
    resume(tmp_path / "stopped", json=True)
    moved.rename(weights)
    one, other = tensors(run), tensors(tmp_path / "stopped")
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau"])
def test_masks_and_classifier_learn_fastest_and_the_stem_slowest(schedule):
    model = TrunkNetwork(4, trunk=TINY)
    config = TrainConfig(layer_decay=0.5, schedule=schedule, lr=0.1, warmup_epochs=0)
    optimizer = build_optimizer(model, config)
    plan = Schedule(optimizer, config, 10, 10)
    plan.before_step(0)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: rate[id(p)] for name, p in model.named_parameters()}
    assert {r for n, r in rates.items() if ".mask." in n or n.startswith("head.")} == {0.1}
    first, last = rates["stem.0.stem_0.weight"], rates["stages.2.1.trunk.stages_3_blocks_1.conv_dw.weight"]
    assert first < last == pytest.approx(0.05)
    assert plan.lr == pytest.approx(0.1)


def test_what_the_flags_mean():
    def asked(*flags: str) -> TrainConfig:
        return configuration(["digits", *flags])

    assert asked("--trunk", "resnet18").recipe == "quick"
    assert asked("--trunk", "resnet18.a1_in1k").recipe == "finetune"
    assert asked("--trunk", "resnet18.a1_in1k", "--trunk-weights", "none").recipe == "quick"
    assert asked("--trunk", "resnet18.a1_in1k", "--layer-decay", "1").layer_decay == 1


@pytest.mark.parametrize(
    "flags, why",
    [
        (["--trunk", "resnet18", "--model", "attention56"], "takes no trunk"),
        (["--trunk", "vit_tiny_patch16_224"], "cannot be a trunk"),
        (["--trunk-weights", "x.pth"], "needs --trunk"),
        (["--freeze-epochs", "2"], "needs --freeze trunk"),
        (["--layer-decay", "0"], "above 0"),
        (["--trunk", "local-dir:/nowhere"], "no config.json"),
    ],
)
def test_flags_that_do_not_fit_are_refused_in_one_line(flags, why, photos, tmp_path, capsys):
    assert main(["train", str(photos), *flags, *SHORT, "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err
    assert why in line
    assert line.count("\n") == 1


def test_models_lists_trunks_with_what_the_masks_cost(capsys):
    assert main(["models", "--trunks", "test_convnext*", "vit_tiny*"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["trunk", "parameters", "masks", "GMACs", "masks", "mask", "maps", "px", "weights"]
    assert row.split()[:2] == [TINY, "272,128"]
    assert main(["models", "--trunks", "no_such*"]) == 2
