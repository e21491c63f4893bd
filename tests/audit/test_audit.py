"""`ran audit`: statistics of made maps and images, a network that reads one corner, the command on a tiny folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from residual_attention.audit.clusters import grouped
from residual_attention.audit.evidence import Evidence, border_of_uniform, border_share, same_place
from residual_attention.audit.gather import Gathered
from residual_attention.audit.sameness import Sameness
from residual_attention.audit.spots import (
    COLOURS,
    FRAME_SPOT,
    LATTICE,
    PATCHES,
    STRIPS,
    Spot,
    controls,
    without_overlap,
)
from residual_attention.audit.suspects import THRESHOLD, suspicions_of
from residual_attention.audit.transplants import Prober, transplanted
from residual_attention.cli.main import main
from residual_attention.data.preprocess import Preprocess

SIDE, EACH, CLASSES = 32, 30, 3
CORNER = Spot("patch", 12, 12, 16, 16)
MODEL = "attention56_cifar.cifar10"


def test_border_share_and_same_place_of_known_maps():
    even = torch.full((2, LATTICE, LATTICE), 1 / LATTICE**2)
    assert border_share(even).tolist() == pytest.approx([border_of_uniform()] * 2)
    corner, centre = torch.zeros(1, LATTICE, LATTICE), torch.zeros(1, LATTICE, LATTICE)
    corner[0, 0, 0] = centre[0, 8, 8] = 1
    assert border_share(torch.cat([corner, centre])).tolist() == [1, 0]
    assert same_place(corner.repeat(3, 1, 1)) == pytest.approx(1)
    assert same_place(torch.cat([corner, centre])) == 0


@pytest.mark.parametrize("spot", [*PATCHES, *STRIPS, FRAME_SPOT], ids=lambda spot: f"{spot.top} {spot.left}")
def test_controls_lie_elsewhere_and_are_no_smaller(spot):
    assert controls(spot)
    for other in controls(spot):
        assert not (other.cells & spot.cells).any()
        assert other.cells.sum() >= spot.cells.sum()


def test_spots_have_names_and_the_same_pixels_at_any_size():
    assert [spot.name for spot in STRIPS] == ["top strip", "bottom strip", "left strip", "right strip"]
    assert CORNER.name == "bottom right corner"
    assert FRAME_SPOT.name == "frame"
    for side in (32, 224):
        assert CORNER.pixels(side).sum() == (side // 4) ** 2
    assert without_overlap([CORNER, Spot("patch", 10, 12, 14, 16), PATCHES[0]], 3) == [CORNER, PATCHES[0]]


def marked(share: float = 0.8) -> tuple[Tensor, Tensor, Tensor]:
    """Noise of three classes, (N, 3, SIDE, SIDE) uint8; most images of class 1 carry one pattern in the corner."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (EACH * CLASSES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    pattern = torch.randint(0, 256, (3, 6, 6), generator=generator, dtype=torch.uint8)
    images[EACH : EACH + round(share * EACH), :, -7:-1, -7:-1] = pattern
    return images, labels, pattern


def test_a_mark_looks_the_same_in_its_class_alone():
    images, labels, _ = marked()
    sameness = Sameness(images, labels, [0, 1, 2])
    assert sameness.of(1, CORNER) > 1.5
    for label, spot in ((0, CORNER), (1, PATCHES[0]), (1, COLOURS)):
        assert 0.6 < sameness.of(label, spot) < 1.6


def test_a_transplant_changes_the_spot_and_nothing_else():
    images, labels, _ = marked()
    hosts, donors = images[labels == 0], images[labels == 1]
    changed = transplanted(hosts, donors, CORNER)
    inside = CORNER.pixels(SIDE)
    assert (changed[..., inside] == donors[..., inside]).all()
    assert (changed[..., ~inside] == hosts[..., ~inside]).all()
    pale = (images[labels == 2].float() * 0.3 + 100).to(torch.uint8)
    recoloured = transplanted(hosts, pale, COLOURS).float()
    assert (recoloured.mean((2, 3)) - pale.float().mean((2, 3))).abs().max() < 1
    assert (recoloured.std((2, 3)) - pale.float().std((2, 3))).abs().max() < 1


class CornerReader(nn.Module):
    """Answers class 1 where the corner holds the pattern, otherwise what the centre's brightness says."""

    def __init__(self, pattern: Tensor, fooled: bool) -> None:
        super().__init__()
        self.preprocess, self.classes = Preprocess(SIDE, mean=(0.5,) * 3, std=(0.25,) * 3), ["a", "b", "c"]
        self.pattern, self.weight = self.preprocess.normalize(pattern), nn.Parameter(torch.ones(1))
        self.fooled = fooled

    def forward(self, images: Tensor) -> Tensor:
        near = (images[:, :, -7:-1, -7:-1].float() - self.pattern).abs().mean((1, 2, 3)) < 0.1
        rest = torch.stack([images[:, 0].mean((1, 2)), images[:, 1].mean((1, 2)), images[:, 2].mean((1, 2))], dim=1)
        return rest.float() + 20 * (near & self.fooled)[:, None] * torch.tensor([0.0, 1.0, 0.0])

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1)


@pytest.mark.parametrize("fooled", [True, False])
def test_a_mark_is_suspected_if_the_network_reads_it(fooled):
    images, labels, pattern = marked()
    gathered = Gathered(images, labels)
    maps = torch.full((len(images), LATTICE, LATTICE), 1 / LATTICE**2)  # the evidence says nothing: sameness proposes
    evidence = Evidence(maps, maps.flatten(1), torch.full((len(images), 2), 0.5), labels, None)
    prober = Prober(CornerReader(pattern, fooled), gathered, seed=0)  # type: ignore[arg-type]
    sameness = Sameness(images, labels, [0, 1, 2])
    found = {name: suspicions_of(prober, evidence, sameness, k, name)[0] for k, name in enumerate("abc")}
    assert found["a"] == found["c"] == []
    assert [spot for spot, _ in found["b"]] == ([CORNER] if fooled else [])
    for _, suspicion in found["b"]:
        assert suspicion.pasted.lift.low > THRESHOLD
        assert 40 < suspicion.pasted.rise.mean < 100
        assert suspicion.pasted.control_rise.mean < 5
        assert suspicion.covered.right_after_pct < suspicion.covered.right_before_pct
        assert suspicion.place.name == "bottom right corner"


def test_groups_are_those_of_look_and_place():
    features = torch.eye(2).repeat_interleave(16, dim=0)
    peaks = torch.tensor([[0.1, 0.1], [0.9, 0.9]]).repeat_interleave(16, dim=0)
    groups = grouped(torch.cat([features, features[:2] * 3]), torch.cat([peaks, peaks[:2]]), seed=0)
    assert groups[0].centre in [pytest.approx((0.1, 0.1)), pytest.approx((0.9, 0.9))]
    assert sorted(i for group in groups for i in group.members) == list(range(34))
    for group in groups:
        assert group.spread == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A dozen coarse pictures of each of three classes of CIFAR-10, and boxes for some of them."""
    root = tmp_path_factory.mktemp("data") / "pictures"
    rng = np.random.default_rng(0)
    for name in ("cat", "ship", "truck"):
        (root / name).mkdir(parents=True)
        for i in range(12):
            small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            small.resize((48, 40), Image.Resampling.BICUBIC).save(root / name / f"{i:02}.png")
    return root


def state(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in root.rglob("*"))


@pytest.fixture(scope="module")
def found(data, tmp_path_factory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("out") / "audit"
    boxes = out.parent / "boxes.json"
    boxes.write_text(json.dumps({f"{p.parent.name}/{p.name}": [4, 0, 44, 20] for p in data.rglob("*.png")}))
    before = state(data)
    command = ["audit", MODEL, str(data), "--out", str(out), "--boxes", str(boxes), "--device", "cpu"]
    assert main([*command, "--classes", "cat", "ship"]) == 0
    assert state(data) == before
    return json.loads((out / "audit.json").read_text()), out


def test_the_document_says_where_the_evidence_lies(found):
    document, _ = found
    assert document["images"] == 36
    assert [one["label"] for one in document["classes"]] == ["cat", "ship"]
    for one in document["classes"]:
        assert one["images"] == 12
        for share in (one["border_pct"], one["outside_boxes_pct"]):
            assert 0 < share["low"] <= share["mean"] <= share["high"] < 100
        assert 0 < one["same_place"] <= 1
        assert {"top strip", "frame", "colours of the whole image"} <= set(one["tested"])
        assert sum(cluster["share_pct"] for cluster in one["clusters"]) == pytest.approx(100, abs=0.1)
    lifts = [one["pasted"]["lift"] for one in document["suspicions"]]
    assert all(lift["low"] > document["threshold_points"] for lift in lifts)
    assert [lift["mean"] for lift in lifts] == sorted((lift["mean"] for lift in lifts), reverse=True)


def test_the_page_is_self_contained(found):
    document, out = found
    page = (out / "audit.html").read_text()
    assert page.count("data:image/") >= 2 + 2 * sum(len(c["clusters"]) for c in document["classes"])
    assert "outside boxes" in page
    for part in ("http://", "https://", "<script", str(out), str(Path.home()) + "/"):
        assert part not in page, part


def test_a_second_audit_replaces_its_own_files_and_no_others(data, tmp_path, capsys):
    (tmp_path / "audit.json").write_text("mine")
    assert main(["audit", MODEL, str(data), "--out", str(tmp_path)]) == 2
    assert (tmp_path / "audit.json").read_text() == "mine"
    assert "was not written by this command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-model", "{data}"], "no model 'no-such-model'"),
        (["{model}.onnx", "{data}"], "an audit needs gradients, which an .onnx file does not have"),
        ([MODEL, "{data}", "--classes", "shipp"], "no class 'shipp' (did you mean ship?)"),
        ([MODEL, "{one}"], "needs at least 10 images of each of two classes; found"),
        ([MODEL, "{empty}"], "empty"),
        ([MODEL, "{data}", "--boxes", "{empty}/none.json"], "no boxes file"),
        ([MODEL, "{data}", "--out", "{data}/audit"], "is inside the data folder"),
        ([MODEL, "{data}", "--limit", "3"], "limit must be at least"),
    ],
)
def test_what_cannot_be_audited_is_one_line(arguments, said, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one/cat").symlink_to(data / "cat")
    places = {"data": data, "model": tmp_path / "model", "one": tmp_path / "one", "empty": tmp_path / "empty"}
    assert main(["audit", *(argument.format(**places) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "audit").exists()
