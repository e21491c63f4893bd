"""Hub folders in timm's layout: written by us, read by timm and us, pushed, fetched, and refused where invalid."""

import json
import shutil
from dataclasses import replace

import huggingface_hub
import pytest
import timm
import torch
from PIL import Image

import residual_attention.models  # noqa: F401 (registers the names)
from residual_attention import create_model, load
from residual_attention.checkpoints import Card, read_model
from residual_attention.checkpoints.format import save_checkpoint
from residual_attention.checkpoints.hub import push, readme, write_folder
from residual_attention.cli.main import main
from residual_attention.data.preprocess import Preprocess

SHIPPED = "attention56_cifar.cifar10"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hub") / "folder"
    assert main(["export", SHIPPED, f"local-dir:{place}"]) == 0
    return place


def small(tmp_path, *, in_chans=1, **overrides):
    """A checkpoint of an untrained network with every kind of option, grayscale and letterboxed."""
    torch.manual_seed(0)
    options = {"num_classes": 3, "in_chans": in_chans, "modules": [1, 1, 1], "mask_depths": [1, 1, 1], **overrides}
    network = create_model("attention56_cifar", **options).eval()
    channels = (0.5,) * in_chans
    preprocess = Preprocess(40, "letterbox", mean=channels, std=channels, crop_pct=0.9)
    metadata = {
        "model": "attention56_cifar",
        "overrides": options,
        "classes": ["a", "b", "ç"],
        "preprocess": preprocess.to_dict(),
        "config": {"data": str(tmp_path / "secret"), "data_dir": None, "out": str(tmp_path), "recipe": "quick"},
    }
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, {f"model.{name}": tensor for name, tensor in network.state_dict().items()}, metadata)
    return path, network


def test_timm_reads_what_was_written(folder):
    images = torch.randn(2, 3, 32, 32)
    ours = load(SHIPPED)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(theirs(images), ours(images))
    data = timm.data.resolve_model_data_config(theirs)
    assert data["input_size"] == (3, 32, 32)
    assert tuple(data["mean"]) == ours.preprocess.mean
    assert data["crop_pct"] == 1.0
    assert json.loads((folder / "config.json").read_text())["label_names"] == ours.classes


def test_ours_comes_back_with_everything(folder):
    back, ours = load(f"local-dir:{folder}"), load(SHIPPED)
    assert back.classes == ours.classes
    assert back.preprocess == ours.preprocess
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in ours.state_dict().items())
    assert back.card.config["recipe"] == "quick"


def test_options_channels_and_preprocessing_survive(tmp_path):
    path, network = small(tmp_path, mask_activation="spatial", learning="naive", unit="vgg")
    place = tmp_path / "hub"
    assert main(["export", str(path), f"local-dir:{place}"]) == 0
    images = torch.randn(2, 1, 40, 40)
    back, theirs = load(f"local-dir:{place}"), timm.create_model(f"local-dir:{place}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(back(images), network(images))
        assert torch.equal(theirs(images), network(images))
    assert back.preprocess == load(path).preprocess
    text = (place / "config.json").read_text()
    plain = json.loads(text)["pretrained_cfg"]
    assert (plain["crop_mode"], plain["crop_pct"]) == ("border", 1.0)  # our letterbox ignores crop_pct
    told = json.loads(text)["residual_attention"]["config"]
    assert told == {"data": "secret", "recipe": "quick"}
    assert str(tmp_path) not in text + (place / "README.md").read_text()  # the run's paths do not leak


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.radial_gradient("L").resize((32, 32)).save(path)
    return str(path)


def test_every_command_takes_a_hub_folder(folder, tmp_path, picture, capsys):
    assert main(["predict", f"local-dir:{folder}", picture, "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    assert main(["predict", SHIPPED, picture, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == theirs
    assert main(["attend", f"local-dir:{folder}", picture, "--out", str(tmp_path / "masks")]) == 0
    assert main(["export", f"local-dir:{folder}", f"local-dir:{tmp_path / 'again'}"]) == 0
    assert (tmp_path / "again/config.json").read_text() == (folder / "config.json").read_text()


def test_fine_tuning_starts_from_a_hub_folder(folder, tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--steps", "2", "--batch-size", "8", "--limit-train", "30", "--image-size", "32", "--in-chans", "3"]
    assert main(["train", "digits", "--init", f"local-dir:{folder}", "--out", str(run), *options, "--lr", "1e-9"]) == 0
    assert "initial weights from local-dir:" in capsys.readouterr().out
    stem = load(run).state_dict()["stem.0.weight"]
    torch.testing.assert_close(stem, load(SHIPPED).state_dict()["stem.0.weight"], atol=1e-6, rtol=0)


def test_a_pool_that_only_timm_has_is_refused(tmp_path):
    network = timm.create_model("attention56_cifar", num_classes=2, global_pool="max", drop_rate=0.3)
    assert network.head.drop.p == 0.3
    timm.models.save_for_hf(network, str(tmp_path / "theirs"), safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'theirs'}", pretrained=True)
    assert again.head.pool_type == "max"
    with pytest.raises(ValueError, match="its global pool is max"):
        load(f"local-dir:{tmp_path / 'theirs'}")


def test_a_folder_that_timm_wrote_itself_is_read(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("attention56_cifar", num_classes=2, mask_structure="local")
    timm.models.save_for_hf(network, str(tmp_path / "theirs"), {"label_names": ["cat", "dog"]}, safe_serialization=True)
    back = load(f"local-dir:{tmp_path / 'theirs'}")
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(back(images), network.eval()(images))
    assert back.classes == ["cat", "dog"]
    assert back.preprocess.image_size == 32


def test_the_model_card_describes_the_training_and_its_results(folder):
    text = (folder / "README.md").read_text()
    assert "recipe `quick` on cifar10 (47,500 images), 32 epochs, seed 0." in text
    assert "Validation error: 6.64 %, at epoch 30, which was selected on the same images." in text
    assert "**Limits.**" in text


def test_the_card_of_a_run_in_steps_on_a_folder_names_neither_epochs_nor_the_folder():
    config = {"data": "someone's photos", "recipe": "paper", "epochs": None, "steps": 160_000, "seed": 3}
    preprocess = Preprocess(32)
    card = Card(model="attention56_cifar", classes=("a", "b"), preprocess=preprocess, config=config)
    text = readme(card, "local-dir:somewhere")
    assert "recipe `paper` on a folder of images, 160,000 steps, seed 3." in text
    assert "photos" not in text
    assert "None" not in text
    assert "recipe" not in readme(replace(card, config={}), "local-dir:somewhere")


class Repository(str):
    """The hub client's reply: its URL, with the repository's name."""

    @property
    def repo_id(self):
        return self.removeprefix("https://hub.example/")


class Hub:
    """A hub on the local disk: uploads can be fetched."""

    def __init__(self, place):
        self.place = place

    def create_repo(self, name, exist_ok):
        assert exist_ok
        return Repository(f"https://hub.example/{name}")

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.place / repo_id)

    def snapshot_download(self, name, revision, allow_patterns):
        assert set(allow_patterns) == {"config.json", "model.safetensors"}
        assert revision in (None, "v1")
        return str(self.place / name)


def test_a_pushed_folder_can_be_fetched(tmp_path, monkeypatch, capsys):
    hub = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    assert main(["export", SHIPPED, "hf-hub:someone/attention56"]) == 0
    assert "https://hub.example/someone/attention56" in capsys.readouterr().out
    assert "ran predict hf-hub:someone/attention56" in (tmp_path / "someone/attention56/README.md").read_text()
    for name in ("hf-hub:someone/attention56", "hf-hub:someone/attention56@v1"):
        back = load(name).state_dict()
        assert all(torch.equal(back[key], tensor) for key, tensor in load(SHIPPED).state_dict().items())


def test_an_unreachable_hub_is_one_line(picture, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main(["predict", "hf-hub:someone/nothing", picture]) == 2
    assert main(["export", SHIPPED, "hf-hub:someone/nothing"]) == 2

    class Unreachable(Exception):
        """Like an HTTP client's exceptions, which are neither OSError nor ValueError."""

    def unreachable(*_args, **_options):
        raise Unreachable("no route\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ValueError, match=r"cannot be fetched: no route$"):
        load("hf-hub:someone/nothing")
    with pytest.raises(ValueError, match=r"cannot be written: no route$"):
        push(*read_model(SHIPPED), "someone/nothing")
    lines = capsys.readouterr().err.splitlines()
    assert "hf-hub:someone/nothing cannot be fetched" in "".join(lines)
    assert "hf-hub:someone/nothing cannot be written" in lines[-1]


def damaged(folder, tmp_path, name, content):
    place = tmp_path / "damaged"
    shutil.copytree(folder, place)
    if content is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(content)
    return f"local-dir:{place}"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("config.json", None, "config.json not found"),
        ("model.safetensors", None, "model.safetensors not found"),
        ("config.json", b"{", "is damaged"),
        ("config.json", b"[]", "names no architecture"),
        ("config.json", b'{"architecture": "resnet50"}', "resnet50, which is not a network of this family"),
        ("config.json", b'{"architecture": "attention56_cifar"}', "is not in timm's layout"),
        (
            "config.json",
            b'{"architecture": "attention56_cifar", "residual_attention": {"format": 99}}',
            "newer version",
        ),
        ("config.json", b'{"architecture": "attention56_cifar", "residual_attention": [1]}', "record .* is damaged"),
        ("config.json", b'{"architecture": "attention56_cifar", "residual_attention": {"format": "x"}}', "is damaged"),
        (
            "config.json",
            b'{"architecture": "attention56_cifar", "residual_attention": {"format": 1}}',
            "'model' is missing",
        ),
        ("model.safetensors", b"nonsense", "is damaged"),
    ],
)
def test_damaged_folders_are_one_line(folder, tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_model(damaged(folder, tmp_path, name, content))


def test_weights_of_another_network_are_not_written(tmp_path):
    weights, card = read_model(SHIPPED)
    with pytest.raises(ValueError, match="do not match the network described"):
        write_folder(weights, replace(card, model="attention92_cifar"), tmp_path / "hub")
    assert list(tmp_path.iterdir()) == []


def test_another_models_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert main(["export", SHIPPED, f"local-dir:{tmp_path}"]) == 2
    assert "not a hub folder of this family" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "out, options, message",
    [
        ("local-dir:", [], "names no folder"),
        ("hf-hub:", [], "names no repository"),
        ("local-dir:x", ["--int8"], "are for files"),
        ("local-dir:tests", [], "is not empty and is not a hub folder of this family"),
        ("model.pt", [], "OUT must be a .onnx or .html file, local-dir:FOLDER"),
    ],
)
def test_unwritable_targets_are_one_line(tmp_path, monkeypatch, capsys, out, options, message):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/mine.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert main(["export", SHIPPED, out, *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine.txt", "tests"]


def test_no_such_folder(picture, capsys):
    assert main(["predict", "local-dir:/nowhere", picture]) == 2
    assert "folder /nowhere not found" in capsys.readouterr().err
