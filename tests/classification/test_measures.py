"""Figures match their definitions; plots are drawn for any number of classes."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from residual_attention.attention.figures import draw_attention, prediction_title
from residual_attention.attention.originals import read_originals, thumbnail
from residual_attention.attention.rows import GAP_PX, read_sheet, sheet_of, write_sheet
from residual_attention.classification.evaluate import evaluate
from residual_attention.classification.figures import draw_confusion, draw_curves
from residual_attention.classification.measures import classification_measures
from residual_attention.data.loading import evaluation_batches
from residual_attention.data.order import Replica
from residual_attention.data.preprocess import Preprocess
from residual_attention.data.samples import FileSamples, TensorSamples, decode, joined
from residual_attention.errors import UserError


def test_summary_by_hand():
    probabilities = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.1, 0.9, 0.0]])
    found = classification_measures(probabilities, torch.tensor([0, 1, 1, 1]), ["a", "b", "c"])
    assert found["top1_error_pct"] == pytest.approx(25)
    assert found["top5_error_pct"] is None
    assert found["confusion"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert [row["error_pct"] for row in found["per_class"]] == [0, pytest.approx(100 / 3), None]
    assert [row["precision_pct"] for row in found["per_class"]] == [50, 100, None]
    # two bins: |0.9 - 1| twice, |0.6 - 0| and |0.8 - 1| once each
    assert found["ece_pct"] == pytest.approx(100 * (0.1 + 0.6 + 0.2 + 0.1) / 4, abs=1e-4)


def test_top5_counts_the_five_most_probable():
    probabilities = torch.eye(8) * 0.5 + torch.arange(8) / 100
    found = classification_measures(probabilities, torch.tensor([0, 1, 2, 3, 4, 5, 6, 0]), [str(i) for i in range(8)])
    assert found["top5_error_pct"] == pytest.approx(100 / 8)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 7)

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_sample_is_evaluated_once_over_replicas_with_unequal_parts(world):
    torch.manual_seed(0)
    samples = TensorSamples(torch.randint(0, 256, (23, 3, 2, 2), dtype=torch.uint8), torch.randint(0, 7, (23,)))
    preprocess = Preprocess(2, "crop")
    model, device = Flat().train(), torch.device("cpu")

    def run(replica, batch_size):
        batches = evaluation_batches(samples, preprocess, batch_size=batch_size, device=device, replica=replica)
        return evaluate(model, batches)

    whole = run(Replica(), 23)
    parts = [run(Replica(rank, world), 4) for rank in range(world)]
    assert sorted(torch.cat([part.indices for part in parts]).tolist()) == list(range(23))
    assert sum(part.loss * len(part) for part in parts) / 23 == pytest.approx(whole.loss)
    assert sum(part.top1_error_pct * len(part) for part in parts) / 23 == pytest.approx(whole.top1_error_pct)
    assert model.training


@pytest.mark.parametrize("count", [2, 10, 100])
def test_confusion_is_drawn_at_any_number_of_classes(tmp_path, count):
    names = [f"a rather long name of a class {i}" for i in range(count)]
    draw_confusion(np.eye(count) * 9 + 1, names, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as image:
        assert min(image.size) > 500


def test_curves_are_drawn_with_and_without_validation(tmp_path):
    header = "epoch,step,lr,train_loss,train_error_pct,val_loss,val_error_pct,images_per_s,time_s\n"
    for name, rows in (
        ("one", "1,10,0.1,2.0,80,1.9,70,100,1\n"),
        ("many", "".join(f"{i},{i},0.1,{2 / i},{80 / i},,,100,1\n" for i in range(1, 9))),
    ):
        (tmp_path / f"{name}.csv").write_text(header + rows)
        draw_curves(tmp_path / f"{name}.csv", tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


@pytest.mark.parametrize("chans, signed", [(3, False), (1, True)])
def test_attention_is_drawn_for_colour_and_gray(tmp_path, chans, signed):
    images = torch.randint(0, 256, (3, chans, 32, 32), dtype=torch.uint8)
    maps = {"stages.0.1": torch.rand(3, 32, 32) - 0.5 * signed, "stages.2.1": torch.rand(3, 8, 8)}
    out = tmp_path / "a.png"
    titles = [prediction_title(true, "b", 0.6) for true in "abc"]
    sheet = draw_attention(images, titles, maps, out, signed=signed)
    with Image.open(out) as image:
        assert image.width > 500
    write_sheet(sheet, tmp_path / "a.json")
    read = read_sheet(tmp_path / "a.json")
    assert read is not None
    assert [(row.title, row.wrong) for row in read.rows] == [(titles[i][0], i != 1) for i in range(3)]
    with Image.open(io.BytesIO(base64.b64decode(read.rows[0].strip))) as strip:
        assert strip.size == (3 * 128 + 2 * GAP_PX, 128)
    (tmp_path / "a.json").write_text('{"rows": [{"title": 3}]}')
    with pytest.raises(UserError, match=r"a\.json is damaged"):
        read_sheet(tmp_path / "a.json")


def test_photos_are_shown_sharp_and_named_whatever_the_network_reads(tmp_path):
    preprocess = Preprocess(16)
    paths = tuple(tmp_path / f"{i}.png" for i in range(3))
    for path in paths[:2]:
        Image.effect_noise((90, 60), 80).convert("RGB").save(path)
    paths[2].write_bytes(b"no image")
    decoded, errors = decode(FileSamples(paths, torch.arange(3)), preprocess, skip_bad=True)
    assert len(errors) == 1
    few = decoded.relabelled(torch.tensor([7, 8])).subset(torch.tensor([1]))
    found = read_originals(joined(few, few), preprocess)
    assert found is not None
    assert list(found.files) == ["1.png", "1.png"]
    with Image.open(paths[1]) as image:
        assert np.array_equal(found.pictures[0], thumbnail(image))
    sheet = sheet_of(few.images, [("a", "black")], {"stages.0.1": torch.rand(1, 4, 4)}, originals=found)
    assert sheet.rows[0].overlays[0].shape == found.pictures[0].shape
    assert sheet.rows[0].file == "1.png"
    paths[1].unlink()
    assert read_originals(few, preprocess) is None  # then the network's input is drawn
