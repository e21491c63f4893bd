"""Experiments as data, cells as ordinary runs: what is run, skipped and resumed, and what the tables show."""

import csv
import json
import os
import shutil
import signal
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import residual_attention.training.loop as loop
from residual_attention.classification.config import TrainConfig
from residual_attention.classification.task import ClassificationTask
from residual_attention.cli.main import main
from residual_attention.experiments import protocols, runner
from residual_attention.experiments.cells import Places, cells_of, fraction_left, state_of
from residual_attention.experiments.declarations import EXPERIMENTS, Row
from residual_attention.experiments.runner import Todo, todo
from residual_attention.training.runfolder import RunFolder, RunInUse


@pytest.fixture
def short(monkeypatch, tmp_path) -> list[str]:
    """The smoke protocol with a thin network and six steps; returns arguments that keep everything in one folder."""

    def tiny(_data: str) -> TrainConfig:
        return TrainConfig(
            limit_train=60,
            steps=6,
            batch_size=16,
            widths=(16, 16, 16),
            mask_depths=(1, 1, 1),
            t=1,
            precision="fp32",
        )

    monkeypatch.setitem(protocols._BASES, "smoke", tiny)
    return ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs"), "--device", "cpu"]


def stop_at(step: int, patched: pytest.MonkeyPatch) -> None:
    """Ctrl-C after a given number of steps."""
    train_step = loop.train_step

    def stopping(job, state, batch):
        if state.progress.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(job, state, batch)

    patched.setattr(loop, "train_step", stopping)


def test_missing_cells_are_run_done_ones_skipped_a_deleted_one_run_alone(short, tmp_path, capsys):
    arguments = ["reproduce", "mask_structure", *short]
    assert main(arguments) == 0
    cells = tmp_path / "records" / "smoke" / "cells"
    assert len(list(cells.iterdir())) == 2
    page = (tmp_path / "records" / "smoke" / "mask_structure.md").read_text()
    assert "| encoder and decoder |" in page
    assert page.count("| done |") == 2
    assert "| 5.52 |" in page
    rows = list(csv.DictReader((tmp_path / "records" / "smoke" / "mask_structure.csv").read_text().splitlines()))
    record = json.loads((cells / "digits_attention56_cifar_mask_structure-local_seed0.json").read_text())
    assert float(rows[1]["test_error_pct"]) == pytest.approx(record["test"]["error_pct"], abs=0.001)
    assert float(rows[1]["reported_error_pct"]) == 6.48
    assert rows[1]["difference_pct"] == ""  # the reported figure is not for digits
    assert rows[1]["test_error_pct_std"] == ""  # undefined for a single run
    assert str(tmp_path) not in json.dumps(record)
    assert "2 cells, 0 done" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in cells.iterdir()}
    assert main(arguments) == 0
    assert "2 cells, 2 done" in capsys.readouterr().out
    gone = cells / "digits_attention56_cifar_seed0.json"
    gone.unlink()
    shutil.rmtree(tmp_path / "runs" / "smoke" / "digits_attention56_cifar_seed0")
    assert main(arguments) == 0
    assert "2 cells, 1 done" in capsys.readouterr().out
    changed = [path.name for path in cells.iterdir() if path.stat().st_mtime_ns != before[path]]
    assert changed == [gone.name]


def test_an_interrupted_cell_is_gone_on_with(short, tmp_path, monkeypatch, capsys):
    arguments = ["reproduce", "mask_structure", *short]
    train_step = loop.train_step
    with monkeypatch.context() as patched:
        stop_at(2, patched)
        assert main(arguments) == 130
    assert "stopped in cell digits_attention56_cifar_seed0, saved" in capsys.readouterr().err
    places = Places(tmp_path / "runs", tmp_path / "records")
    (cell,) = cells_of("smoke", EXPERIMENTS["mask_structure"], EXPERIMENTS["mask_structure"].rows[0], 1, {})
    assert state_of(places, "smoke", cell) == "partial"
    assert "| partial |" in (tmp_path / "records/smoke/mask_structure.md").read_text()
    steps = []
    monkeypatch.setattr(loop, "train_step", lambda j, s, b: steps.append(s.progress.step) or train_step(j, s, b))
    assert main(arguments) == 0
    assert steps[:4] == [3, 4, 5, 0]  # the rest of the first, then the second


def test_a_signal_in_a_cells_last_evaluation_stops_in_it_and_the_next_call_finishes_it(
    short, tmp_path, monkeypatch, capsys
):
    evaluate = ClassificationTask.evaluate

    def stopping(task, model):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(task, model)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "evaluate", stopping)
        assert main(["reproduce", "mask_structure", *short]) == 143
    assert "stopped in cell digits_attention56_cifar_seed0, saved" in capsys.readouterr().err
    assert not list((tmp_path / "records/smoke").glob("cells/*"))
    assert main(["reproduce", "mask_structure", *short, "--only", "encoder and decoder"]) == 0
    assert len(list((tmp_path / "records/smoke/cells").iterdir())) == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_before_the_training_of_a_cell_stops_it_at_its_first_step(short, tmp_path, monkeypatch, capsys):
    run_cell = runner._run_cell

    def stopping(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return run_cell(*arguments)

    monkeypatch.setattr(runner, "_run_cell", stopping)
    assert main(["reproduce", "mask_structure", *short]) == 130
    assert "stopped in cell digits_attention56_cifar_seed0, saved" in capsys.readouterr().err
    assert "| partial |" in (tmp_path / "records/smoke/mask_structure.md").read_text()


def test_protocols_and_seeds(short, tmp_path, capsys):
    assert main(["reproduce", "mask_structure", "--seeds", "2", *short]) == 0
    page = (tmp_path / "records/smoke/mask_structure.md").read_text()
    assert " ± " in page
    for row in csv.DictReader((tmp_path / "records/smoke/mask_structure.csv").read_text().splitlines()):
        cells = (tmp_path / "records/smoke/cells").glob("*.json")
        local = row["setting"] == "local convolutions"
        errors = [json.loads(p.read_text())["test"]["error_pct"] for p in cells if ("local" in p.name) == local]
        assert float(row["test_error_pct"]) == pytest.approx(statistics.mean(errors), abs=1e-3)
        assert float(row["test_error_pct_std"]) == pytest.approx(statistics.stdev(errors), abs=1e-3)
        assert row["n"] == "2"
    assert main(["reproduce", "mask_structure", "--protocol", "cpu", "--dry-run", "--json", *short]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {one["state"] for one in told["cells"]} == {"not run"}
    assert not (tmp_path / "records" / "cpu").exists()


def test_only_the_rows_that_were_asked_for_are_run(short, tmp_path, capsys):
    assert (
        main(["reproduce", "learning", "mask_structure", "--only", "attention-56,", "LOCAL", "--dry-run", *short]) == 0
    )
    told = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("  not run")]
    assert told == [
        "digits_attention56_cifar_seed0",
        "digits_attention56_cifar_learning-naive_seed0",
        "digits_attention56_cifar_mask_structure-local_seed0",
    ]


def test_responses_are_on_record_and_drawn(short, tmp_path, monkeypatch):
    learning = EXPERIMENTS["learning"]
    monkeypatch.setitem(EXPERIMENTS, "learning", replace(learning, rows=learning.rows[:2]))
    monkeypatch.setitem(EXPERIMENTS, "activation", replace(EXPERIMENTS["mask_activation"], rows=learning.rows[:1]))
    assert main(["reproduce", "activation", *short]) == 0  # the same cell, for a table without responses
    (path,) = (tmp_path / "records/smoke/cells").iterdir()
    other = {"error_pct": 50.0}  # for a table that tests at another size
    path.write_text(json.dumps({**json.loads(path.read_text()), "test_48px": other}))
    assert main(["reproduce", "learning", *short]) == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "records/smoke/cells").iterdir()]
    assert json.loads(path.read_text())["test_48px"] == other
    assert all(set(record["responses"]) == {"stage 1", "stage 2", "stage 3", "final"} for record in records)
    widths = []
    for name in ("learning", "mask_activation"):
        with Image.open(tmp_path / f"records/smoke/{name}.png") as plot:
            widths.append(plot.width)
    assert widths[0] > 1.4 * widths[1]  # a panel of responses beside the errors


@pytest.mark.drawn
def test_a_plain_residual_network_is_a_cell_too(short, tmp_path, monkeypatch):
    noise = EXPERIMENTS["label_noise_56"]
    monkeypatch.setitem(EXPERIMENTS, "label_noise_56", replace(noise, rows=noise.rows[1:2]))
    assert main(["reproduce", "label_noise_56", *short]) == 0
    run = next(Path(tmp_path / "runs" / "smoke").iterdir())
    assert not (run / "attention.png").exists()
    assert (run / "report.html").is_file()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["learnin"], "no table 'learnin' (did you mean learning?)"),
        (["learning", "--only", "Attention-57"], "no such row; choose from Attention-56, residual learning"),
        (["learning", "--shard", "3/2"], "--shard must be i/n"),
        (["learning", "--seeds", "0"], "seeds must be at least 1"),
        (["learning", "--protocol", "quick"], "not 'quick'"),
    ],
)
def test_bad_arguments_are_answered_in_a_line(capsys, arguments, message):
    assert main(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_or_a_record_of_another_declaration_is_refused(short, tmp_path, monkeypatch, capsys):
    arguments = ["reproduce", "mask_structure", "--only", "encoder", *short]
    assert main(arguments) == 0
    longer = replace(protocols._BASES["smoke"]("digits"), steps=7)
    monkeypatch.setitem(protocols._BASES, "smoke", lambda _data: longer)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "digits_attention56_cifar_seed0.json was made with steps 6, but the table now says 7" in message
    shutil.rmtree(tmp_path / "records")
    assert main(arguments) == 2
    assert "smoke/digits_attention56_cifar_seed0 was made with steps 6" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "runs")
    assert main(arguments) == 0


def test_a_cell_that_another_process_is_at_is_left_to_it(short, tmp_path, monkeypatch, capsys):
    run_cell, tried = runner._run_cell, []

    def elsewhere(one, *rest):
        tried.append(one.cell.key)
        if "local" not in one.cell.key:
            raise RunInUse("in use")
        return run_cell(one, *rest)

    monkeypatch.setattr(runner, "_run_cell", elsewhere)
    assert main(["reproduce", "mask_structure", *short]) == 0
    text = capsys.readouterr().out
    first, local = "digits_attention56_cifar_seed0", "digits_attention56_cifar_mask_structure-local_seed0"
    assert tried == [first, local, first]
    assert f"{first} is still running in another process" in text
    assert [path.stem for path in (tmp_path / "records/smoke/cells").iterdir()] == [local]


def test_a_run_in_use_is_told_from_other_errors(short, tmp_path, capsys):
    assert main(["reproduce", "mask_structure", "--only", "encoder", *short]) == 0
    run = tmp_path / "runs/smoke/digits_attention56_cifar_seed0"
    (run / "summary.json").unlink()
    shutil.rmtree(tmp_path / "records")
    with RunFolder(run).locked():
        assert main(["reproduce", "mask_structure", "--only", "encoder", *short]) == 0
    assert "another process is running this cell" in capsys.readouterr().out


def test_a_cell_goes_on_where_the_command_says_that_the_data_lie(short, tmp_path, monkeypatch):
    """A run that was started with its data elsewhere, on another device."""
    assert main(["reproduce", "mask_structure", "--only", "encoder", *short]) == 0
    (tmp_path / "runs/smoke/digits_attention56_cifar_seed0/summary.json").unlink()
    shutil.rmtree(tmp_path / "records")
    seen = {}
    resume = runner.resume
    monkeypatch.setattr(runner, "resume", lambda run, **given: seen.update(given) or resume(run, **given))
    (cell,) = cells_of(
        "smoke",
        EXPERIMENTS["mask_structure"],
        EXPERIMENTS["mask_structure"].rows[0],
        1,
        {"data_dir": tmp_path / "moved", "device": "cpu"},
    )
    places = Places(tmp_path / "runs", tmp_path / "records")
    runner.run_cells([Todo(cell, "partial")], "smoke", places, lambda _: None, lambda: None)
    assert seen == {"json": True, "data_dir": str(tmp_path / "moved"), "device": "cpu"}


def test_a_cell_that_was_broken_off_costs_what_is_left_of_it(short, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_at(3, patched)
        assert main(["reproduce", "mask_structure", "--only", "encoder", *short]) == 130
    places = Places(tmp_path / "runs", tmp_path / "records")
    experiment = EXPERIMENTS["mask_structure"]
    one, other = todo([experiment], "smoke", places, 1, {})
    assert fraction_left(places, "smoke", one.cell) == pytest.approx(2 / 6)
    assert fraction_left(places, "smoke", other.cell) == 1.0
    both = runner.expected_s([one, other], "smoke", places)[0]
    assert both == pytest.approx((2 / 6 + 1) * runner.expected_s([other], "smoke", places)[0], rel=0.3)


def test_imagenet_at_another_size_is_on_record_and_in_the_table(short, tmp_path, monkeypatch, capsys):
    pixels = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for name in ("n01440764", "n01443537"):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = pixels.integers(0, 256, (48, 56, 3), dtype=np.uint8)
                Image.fromarray(picture).save(folder / f"{name}_{i}.JPEG")
    base = replace(protocols._BASES["smoke"]("digits"), image_size=32, val_fraction=0.2, steps=2, batch_size=8)
    monkeypatch.setitem(protocols._BASES, "paper", lambda _data: base)
    rows = [
        Row("thin", "attention92_cifar", {}, 19.5, data="imagenet", test_px=48, reported_top5_error_pct=4.8),
        Row("thin at its own size", "attention92_cifar", {}, 21.0, data="imagenet"),
    ]
    monkeypatch.setitem(EXPERIMENTS, "imagenet", replace(EXPERIMENTS["imagenet"], rows=tuple(rows)))
    arguments = ["reproduce", "imagenet", "--protocol", "paper", "--seeds", "1", *short]
    assert main(arguments) == 2
    assert "imagenet cannot be downloaded" in capsys.readouterr().err
    assert main([*arguments, "--imagenet", str(tmp_path / "imagenet")]) == 0
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "records/paper/cells").iterdir()]
    assert record["test_48px"]["images"] == record["test"]["images"] == 8
    page = (tmp_path / "records/paper/imagenet.md").read_text()
    assert "| 19.50 / 4.80 |" in page
    assert f"| {record['test_48px']['error_pct']:.2f} | 1 |" in page
    assert f"| {record['test']['error_pct']:.2f} | 1 |" in page
    assert main(["reproduce", "imagenet", *short]) == 0  # no small protocol includes it
    assert "protocol smoke has none of these rows" in capsys.readouterr().out
    assert not (tmp_path / "records/smoke").exists()


def test_a_damaged_record_is_said(short, tmp_path, capsys):
    cells = tmp_path / "records" / "smoke" / "cells"
    cells.mkdir(parents=True)
    (cells / "digits_attention56_cifar_seed0.json").write_text("{")
    assert main(["reproduce", "mask_structure", *short]) == 2
    assert "is damaged; delete it" in capsys.readouterr().err


def test_the_list_tells_what_there_is(short, capsys):
    assert main(["reproduce", *short]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in EXPERIMENTS)
