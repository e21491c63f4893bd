"""Folders and named sets: splits, labels by name, notices, and nothing written into them."""

import hashlib
import http.server
import io
import pickle
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residual_attention.classification.config import TrainConfig
from residual_attention.data import sources
from residual_attention.data.folders import scan_folder
from residual_attention.data.images import ImageError
from residual_attention.data.load import load_dataset, load_split
from residual_attention.data.preprocess import Preprocess
from residual_attention.data.samples import FileSamples, TensorSamples
from residual_attention.data.splits import add_label_noise, class_balanced_subset, stratified_split
from residual_attention.errors import UserError

ANIMALS = ["ant", "bee", "cat", "dog", "eel"]


def noise(size=40) -> Image.Image:
    rng = np.random.default_rng(abs(hash(size)) % 1000)
    return Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.fixture
def odd_folder(tmp_path) -> Path:
    """Five classes, a ``valid`` split that lacks one of them, and every kind of file that users have."""
    root = tmp_path / "animals"
    for split, classes, count in (("train", ANIMALS, 6), ("valid", ANIMALS[1:], 2), ("Test", ANIMALS, 2)):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise().save(folder / f"{i}.png")
    noise().convert("CMYK").save(root / "train/ant/cmyk.jpg")
    Image.fromarray(np.full((40, 40), 30_000, np.uint16)).save(root / "train/bee/sixteen.png")
    whole = io.BytesIO()
    noise(64).save(whole, "JPEG")
    (root / "train/cat/truncated.jpg").write_bytes(whole.getvalue()[:700])
    (root / "train/.ipynb_checkpoints").mkdir()
    noise().save(root / "train/.ipynb_checkpoints/0.png")
    (root / "train/dog/Thumbs.db").write_text("")
    (root / "train/dog/notes.txt").write_text("")
    return root


def snapshot(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}


@pytest.mark.parametrize("image_size", [32, 96])
def test_the_odd_folder_is_read_with_the_right_labels_and_says_what_it_skipped(odd_folder, image_size):
    before = snapshot(odd_folder)
    data = load_dataset(TrainConfig(data=str(odd_folder), image_size=image_size))
    assert data.classes == ANIMALS
    in_memory = image_size == 32
    assert isinstance(data.train, TensorSamples if in_memory else FileSamples)
    counts = torch.bincount(data.train.labels).tolist()
    assert counts == ([7, 7, 6, 6, 6] if in_memory else [7, 7, 7, 6, 6])
    assert torch.bincount(data.val.labels).tolist() == [0, 2, 2, 2, 2]
    assert torch.bincount(data.test.labels).tolist() == [2] * 5
    notices = " | ".join(data.notices)
    assert "the val split has no images for 1 classes: ant" in notices
    assert "ignored 3 entries that are not images" in notices
    assert ".ipynb_checkpoints" in notices
    assert ("truncated.jpg" in notices) == in_memory  # larger images are found unreadable as they are met
    assert data.skipped == int(in_memory)
    assert snapshot(odd_folder) == before


def test_evaluation_never_skips(odd_folder):
    (odd_folder / "Test/ant/0.png").write_bytes(b"no image")
    for image_size in (32, 96):
        with pytest.raises(ImageError, match="not an image"):
            load_dataset(TrainConfig(data=str(odd_folder), image_size=image_size))


def test_unreadable_training_images_stop_when_asked(odd_folder):
    with pytest.raises(ImageError, match="truncated"):
        load_dataset(TrainConfig(data=str(odd_folder), image_size=32, skip_bad_images=False))


def test_a_folder_whose_images_are_all_unreadable_says_so(tmp_path):
    for label in "ab":
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "1.png").write_text("text")
    with pytest.raises(UserError, match=r"texts: no training image of a, b is left; 2 images could not be read"):
        load_dataset(TrainConfig(data=str(tmp_path / "texts"), image_size=32))


def test_a_folder_without_splits_is_split_stratified_and_seeded(write_image_folder, tmp_path):
    root = write_image_folder(tmp_path / "flat", classes=3, each=20, size=24)
    config = TrainConfig(data=str(root))
    data, again = load_dataset(config), load_dataset(config)
    assert [len(s) for s in (data.train, data.val, data.test)] == [48, 5, 7]
    assert min(torch.bincount(data.val.labels).tolist()) >= 1
    assert torch.equal(data.val.images, again.val.images)
    assert not torch.equal(data.val.images, load_dataset(TrainConfig(data=str(root), seed=1)).val.images)
    assert data.preprocess.image_size == 32
    assert sum("held out" in notice for notice in data.notices) == 2


def test_76_classes_and_single_channel_images(write_image_folder, tmp_path):
    many = load_dataset(TrainConfig(data=str(write_image_folder(tmp_path / "many", classes=76, each=4, size=32))))
    assert len(many.classes) == 76
    assert len(many.train.labels.unique()) == 76
    gray = load_dataset(TrainConfig(data=str(write_image_folder(tmp_path / "gray", size=20, mode="L"))))
    assert gray.preprocess.in_chans == 1
    assert gray.train.images.shape[1:] == (1, 32, 32)
    mean = gray.train.images.float().mean() / 255
    assert gray.preprocess.mean[0] == pytest.approx(mean.item(), abs=0.02)


def test_labels_follow_names_not_folder_order(tmp_path):
    for split, names in (("train", ["b", "c", "d"]), ("val", ["d", "b", "unknown"]), ("test", ["c"])):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            noise().save(tmp_path / split / name / "x.png")
    listing = scan_folder(tmp_path)
    assert listing.classes == ["b", "c", "d"]
    assert {path.parent.name: label for path, label in listing.splits["val"]} == {"b": 0, "d": 2}
    assert {path.parent.name: label for path, label in listing.splits["test"]} == {"c": 1}
    assert any("unknown (1 images)" in notice for notice in listing.notices)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda root: None, "has no images in class folders; expected"),
        (lambda root: (root / "only").mkdir() or noise().save(root / "only/1.png"), "only one class"),
        (lambda root: noise().save(root / "1.png"), "1 of its own; if these are one class, give the folder above"),
        (lambda root: (root / "in/a").mkdir(parents=True) or noise().save(root / "in/a/1.png"), r"did you mean .*in\?"),
        (
            lambda root: [(root / name / "a").mkdir(parents=True) for name in ("train", "training")],
            "both train and training",
        ),
        (lambda root: (root / "val/a").mkdir(parents=True), "no train folder"),
    ],
)
def test_unusable_folders_say_what_is_expected(tmp_path, build, message):
    build(tmp_path)
    with pytest.raises(ValueError, match=message):
        scan_folder(tmp_path)


def test_classes_that_a_model_lacks_are_reported_before_an_image_is_read(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="classes that the model does not have: cat"):
        load_split(str(tmp_path), Preprocess(32), ["dog", "cow"])


def test_unknown_names_and_missing_folders_are_one_line():
    for data, message in (("cifar11", "did you mean cifar10"), ("/no/such/folder", "no data set or folder")):
        with pytest.raises(ValueError, match=message):
            load_dataset(TrainConfig(data=data))
    with pytest.raises(ValueError, match="give the folder that holds train/ and val/ with --data-dir"):
        load_dataset(TrainConfig(data="imagenet"))


def test_digits_have_a_fixed_test_split_and_real_pixels():
    one, two = load_dataset(TrainConfig()), load_dataset(TrainConfig(seed=5))
    assert torch.equal(one.test.images, two.test.images)
    assert not torch.equal(one.val.images, two.val.images)
    assert len(one.train) + len(one.val) + len(one.test) == 1797
    assert one.train.images.shape[1:] == (1, 16, 16)
    assert one.flip is False


# CIFAR in torchvision's layout, made small


def cifar_archive(folder: Path, monkeypatch) -> Path:
    """A synthetic cifar-10-python.tar.gz of 20 images, with torchvision's checksums patched to match."""
    from torchvision.datasets import CIFAR10

    def member(archive, name, content):
        raw = pickle.dumps(content)
        info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
        info.size = len(raw)
        archive.addfile(info, io.BytesIO(raw))
        return hashlib.md5(raw).hexdigest()

    rng = np.random.default_rng(0)
    path = folder / CIFAR10.filename
    with tarfile.open(path, "w:gz") as archive:
        sums = []
        for name in ("data_batch_1", "test_batch"):
            batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(20)]}
            sums.append((name, member(archive, name, batch)))
        meta = member(archive, "batches.meta", {"label_names": [f"kind{i}" for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", [list(sums[0])])
    monkeypatch.setattr(CIFAR10, "test_list", [list(sums[1])])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


def test_cifar_is_downloaded_checked_and_kept(tmp_path, own_cache, monkeypatch, capsys):
    from torchvision.datasets import CIFAR10

    cifar_archive(tmp_path, monkeypatch)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, directory=str(tmp_path), **named)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{CIFAR10.filename}")
        data = load_dataset(TrainConfig(data="cifar10", val_fraction=0.5))
        server.shutdown()
        thread.join()
    assert "downloading cifar10" in capsys.readouterr().err
    assert [len(s) for s in (data.train, data.val, data.test)] == [10, 10, 20]
    assert data.classes[3] == "kind3"
    assert (own_cache / "cifar-10-batches-py").is_dir()
    again = load_dataset(TrainConfig(data="cifar10", val_fraction=0.5))  # the server is gone
    assert torch.equal(again.train.images, data.train.images)


def test_cifar_offline_says_what_to_put_where(own_cache, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(ValueError, match=r"put cifar-10-python\.tar\.gz into .*, or give its folder") as caught:
        load_dataset(TrainConfig(data="cifar10"))
    assert "\n" not in str(caught.value)


def test_cifar_from_a_given_archive_leaves_its_folder_alone(tmp_path, monkeypatch):
    archive = cifar_archive(tmp_path, monkeypatch)
    before = snapshot(tmp_path)
    data = load_dataset(TrainConfig(data="cifar10", data_dir=tmp_path, val_fraction=0.5))
    assert len(data.test) == 20
    assert snapshot(tmp_path) == before
    archive.write_bytes(archive.read_bytes()[:-10])
    with pytest.raises(ValueError, match="incomplete or damaged"):
        load_dataset(TrainConfig(data="cifar10", data_dir=tmp_path))


def test_a_given_archive_is_unpacked_once(tmp_path, own_cache, monkeypatch):
    cifar_archive(tmp_path, monkeypatch)
    config = TrainConfig(data="cifar10", data_dir=tmp_path, val_fraction=0.5)
    load_dataset(config)
    before = snapshot(own_cache)
    load_dataset(config)
    assert before
    assert snapshot(own_cache) == before
    monkeypatch.setattr(sources, "IN_MEMORY_BYTES", 1000)
    with pytest.raises(ValueError, match="GiB of memory"):
        load_dataset(TrainConfig(data="cifar10", data_dir=tmp_path, val_fraction=0.5, image_size=64))


def test_cifar_from_class_folders_and_a_wrong_folder(write_image_folder, tmp_path):
    write_image_folder(tmp_path / "c/train", classes=3, size=32)
    write_image_folder(tmp_path / "c/test", classes=3, each=2, size=32)
    data = load_dataset(TrainConfig(data="cifar10", data_dir=tmp_path / "c"))
    assert data.preprocess.mean == sources.CIFAR_CONSTANTS["cifar10"][0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds neither cifar-10-batches-py/ nor"):
        load_dataset(TrainConfig(data="cifar10", data_dir=tmp_path / "empty"))
    with pytest.raises(ValueError, match="no such folder"):
        load_dataset(TrainConfig(data="cifar10", data_dir=tmp_path / "missing"))


def test_imagenets_published_validation_images_are_the_test(write_image_folder, tmp_path):
    write_image_folder(tmp_path / "train", classes=2, each=10)
    write_image_folder(tmp_path / "val", classes=2, each=3)
    data = load_dataset(TrainConfig(data="imagenet", data_dir=tmp_path))
    assert [len(s) for s in (data.train, data.val, data.test)] == [18, 2, 6]
    assert data.preprocess.crop_pct == 0.875


def test_shards_are_read_where_they_lie(tmp_path, own_cache):
    for split, count in (("train", 12), ("val", 4)):
        with tarfile.open(tmp_path / f"{split}-000000.tar", "w") as archive:
            for i in range(count):
                image = io.BytesIO()
                Image.new("RGB", (70, 70), (10 * i, 0, 0)).save(image, "PNG")
                for suffix, content in (("png", image.getvalue()), ("cls", str(i % 2).encode())):
                    info = tarfile.TarInfo(f"{i:04d}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    (tmp_path / "classes.txt").write_text("even\nodd\n")
    before = snapshot(tmp_path)
    data = load_dataset(TrainConfig(data=str(tmp_path), image_size=72))
    again = load_dataset(TrainConfig(data=str(tmp_path), image_size=72))  # from the cached index
    assert data.classes == ["even", "odd"]
    for found in (data, again):
        assert [found.train.read(i, 3).getpixel((0, 0))[0] for i in range(12)] == [10 * i for i in range(12)]
        assert found.train.labels.tolist() == [0, 1] * 6
        assert len(found.val) == 4
    assert snapshot(tmp_path) == before


# Choices among labels


def test_shards_of_any_folder_name_and_classes_that_training_lacks(tmp_path):
    for split, labels in (("train", "ab"), ("val", "abc")):
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as archive:
            for i, label in enumerate(labels * 2):
                image = io.BytesIO()
                Image.new("RGB", (70, 70)).save(image, "PNG")
                for suffix, content in (("png", image.getvalue()), ("cls", label.encode())):
                    info = tarfile.TarInfo(f"./v1.0/{i}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    data = load_dataset(TrainConfig(data=str(tmp_path), image_size=72))
    assert (data.classes, len(data.train), len(data.val)) == (["a", "b"], 4, 4)
    assert any("2 images of classes that are not in training: c" in notice for notice in data.notices)


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise().save(root / name)


def test_folders_named_like_splits(tmp_path):
    write(tmp_path / "vehicles", "train/0.png", "bus/0.png")  # trains are vehicles
    listing = scan_folder(tmp_path / "vehicles")
    assert listing.classes == ["bus", "train"]
    assert any("used as a class" in notice for notice in listing.notices)
    write(tmp_path / "unlabelled", "train/a/0.png", "train/b/0.png", "test/0.png")
    listing = scan_folder(tmp_path / "unlabelled")
    assert set(listing.splits) == {"train"}
    assert any("test has images but no class folders: left out" in notice for notice in listing.notices)
    write(tmp_path / "mixed", "cat/0.png", "dog/0.png", "test/cat/0.png")
    with pytest.raises(ValueError, match="has test but no train folder"):
        scan_folder(tmp_path / "mixed")
    write(tmp_path / "hidden", "val/a/0.png", "test/a/0.png", ".ipynb_checkpoints/0.png")
    with pytest.raises(ValueError, match="no train folder"):
        scan_folder(tmp_path / "hidden")


def test_every_class_keeps_a_training_sample():
    labels = torch.tensor([0] * 100 + [1] * 3 + [2] * 2 + [3])
    kept, held = stratified_split(labels, 0.1, seed=0)
    assert torch.bincount(labels[held], minlength=4).tolist() == [10, 1, 1, 0]
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(labels)))
    assert len(stratified_split(labels, 0.0, seed=0)[1]) == 0


def test_balanced_subset_takes_equally_until_a_class_runs_out():
    labels = torch.tensor([0] * 50 + [1] * 50 + [2] * 3)
    chosen = class_balanced_subset(labels, 33, seed=0)
    assert torch.bincount(labels[chosen]).tolist() == [15, 15, 3]


def test_label_noise_changes_exactly_its_share_to_other_classes():
    labels = torch.arange(1000) % 10
    noisy = add_label_noise(labels, 0.3, 10, seed=0)
    assert (noisy != labels).sum() == 300
    wrong = noisy[(noisy != labels) & (labels == 0)]
    assert len(wrong.unique()) > 5
    assert torch.equal(noisy, add_label_noise(labels, 0.3, 10, seed=0))
    assert torch.equal(add_label_noise(labels, 0.0, 10, seed=0), labels)


def test_label_noise_leaves_validation_and_test_alone():
    clean, noisy = load_dataset(TrainConfig()), load_dataset(TrainConfig(label_noise=0.5))
    assert (clean.train.labels != noisy.train.labels).float().mean() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(clean.val.labels, noisy.val.labels)
    assert torch.equal(clean.test.labels, noisy.test.labels)


# Splits for a trained model


def test_a_models_classes_are_matched_by_name(write_image_folder, tmp_path):
    root = write_image_folder(tmp_path / "x", classes=3, each=4, size=32)
    preprocess = load_dataset(TrainConfig(data=str(root))).preprocess
    samples, notices = load_split(str(root), preprocess, ["class02", "other", "class00", "class01"])
    assert samples.labels.unique().tolist() == [0, 2, 3]
    assert any("all its images are evaluated" in notice for notice in notices)
    with pytest.raises(ValueError, match="classes that the model does not have: class02; its classes: class00"):
        load_split(str(root), preprocess, ["class00", "class01"])
    write(tmp_path / "y", "train/class00/0.png", "train/class01/0.png", "test/class00/0.png", "test/class02/0.png")
    samples, _ = load_split(str(tmp_path / "y"), preprocess, ["class00", "class01", "class02"])
    assert samples.labels.tolist() == [0, 2]  # none is lost because the training folders beside it lack it
    with pytest.raises(ValueError, match="has changed since training"):
        load_split(str(root), preprocess, ["class00", "class01", "class02"], whole=False, train_images=3)
    with pytest.raises(ValueError, match="no folder at"):
        load_split("imagenet", preprocess, ["a"], data_dir=tmp_path / "nothing")


def test_workers_that_stay_end_with_the_process_even_in_the_middle_of_an_epoch(write_image_folder, tmp_path):
    """They ignore SIGTERM, by which multiprocessing would end them before it waits for them."""
    folder = write_image_folder(tmp_path / "images")
    code = (
        "import sys, torch\nfrom pathlib import Path\n"
        "from residual_attention.data.strengths import Augment\n"
        "from residual_attention.data.datasets import FileSamples\n"
        "from residual_attention.data.loading import TrainingData\n"
        "from residual_attention.data.preprocess import Preprocess\n"
        "paths = tuple(sorted(Path(sys.argv[1]).rglob('*.png')))\n"
        "samples = FileSamples(paths, torch.zeros(len(paths), dtype=torch.int64))\n"
        "data = TrainingData(samples=samples, preprocess=Preprocess(32), augment=Augment(), num_classes=2, "
        "batch_size=4, seed=0, device=torch.device('cpu'), workers=2)\n"
        "sys.kept = data, data.epoch(0)\nprint(len(next(sys.kept[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "4"), done.stderr
