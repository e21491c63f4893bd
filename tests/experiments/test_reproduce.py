"""Experiments as data, cells as ordinary runs: what is run, skipped, gone on with, and what the tables say."""

import csv
import json
import os
import shutil
import signal
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

import residual_attention.training.loop as loop
from residual_attention.cli.main import main
from residual_attention.experiments import protocols, runner
from residual_attention.experiments.cells import Places, cells_of, state_of
from residual_attention.experiments.declarations import EXPERIMENTS
from residual_attention.experiments.protocols import PROTOCOLS, applies, configure
from residual_attention.experiments.runner import todo
from residual_attention.family import VARIANTS, create_model
from residual_attention.training.classification import ClassificationTask
from residual_attention.training.config import TrainConfig

ROWS = [(e, row) for e in EXPERIMENTS.values() for row in e.rows]


@pytest.fixture
def short(monkeypatch, tmp_path) -> list[str]:
    """The smoke protocol with a thin network and six steps; the arguments that keep everything in a folder."""

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


@pytest.mark.parametrize("experiment, row", ROWS, ids=[f"{e.name}: {row.label}" for e, row in ROWS])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_row_is_a_complete_configuration_of_a_network_that_exists(protocol, experiment, row):
    assert row.model in VARIANTS
    assert set(row.changes) <= {field.name for field in fields(TrainConfig)}
    if not applies(protocol, row):
        assert protocol == "smoke"
        assert "452" in row.model or row.data == "cifar100"
        return
    config = configure(protocol, experiment, row, 3)
    assert (config.model, config.seed) == (row.model, 3)
    assert config.data == ("digits" if protocol == "smoke" else row.data)
    if protocol == "cpu":  # the networks are the same in every protocol; of the deep ones a module a stage will do
        with torch.device("meta"):
            create_model(row.model, num_classes=10, **{**config.network_overrides(), "modules": 1})


def test_the_reported_figures_are_those_of_the_design():
    reported = {row.label: row.reported_error_pct for e in EXPERIMENTS.values() for row in e.rows}
    assert reported["Attention-164, naive learning"] == 7.18
    assert reported["Attention-92, 70 % noise"] == 15.75
    assert reported["ResNet-164, 70 % noise"] == 17.21
    assert reported["Attention-452, CIFAR-100"] == 20.45
    assert reported["Attention-92 wide, naive"] == 40.05


def test_a_cell_that_two_tables_need_has_one_name():
    names = [
        {cell.key for row in EXPERIMENTS[e].rows for cell in cells_of("cpu", EXPERIMENTS[e], row, 1, {})}
        for e in ("learning", "mask_activation", "mask_structure", "trunks", "optimizers")
    ]
    assert set.intersection(*names) == {"cifar10_attention56_cifar_seed0"}


def test_different_cells_never_share_a_name():
    for protocol in PROTOCOLS:
        found: dict[str, TrainConfig] = {}
        for experiment, row in ROWS:
            for cell in cells_of(protocol, experiment, row, 2, {}):
                assert found.setdefault(cell.key, cell.config) == cell.config, cell.key


def test_shards_cover_every_cell_once(tmp_path):
    places = Places(tmp_path / "runs", tmp_path / "records")
    every = [one.cell.key for one in todo(EXPERIMENTS.values(), "cpu", places, 2, {})]
    parts = [todo(EXPERIMENTS.values(), "cpu", places, 2, {}, (i, 3)) for i in (1, 2, 3)]
    assert sorted(one.cell.key for part in parts for one in part) == sorted(every)
    assert len(set(every)) == len(every)


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
    assert float(rows[1]["ours"]) == pytest.approx(record["test"]["error_pct"], abs=0.01)
    assert rows[1]["difference"] == "–"  # digits are not what the reported figure is of
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

    def stopping(job, state, batch):
        if state.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(job, state, batch)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", stopping)
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


def test_a_signal_in_a_cells_last_evaluation_stops_before_the_next(short, tmp_path, monkeypatch, capsys):
    finish = ClassificationTask.finish

    def stopping(task, job, state, writer):
        os.kill(os.getpid(), signal.SIGTERM)
        return finish(task, job, state, writer)

    monkeypatch.setattr(ClassificationTask, "finish", stopping)
    assert main(["reproduce", "mask_structure", *short]) == 143
    assert "stopped after cell digits_attention56_cifar_seed0, which is done" in capsys.readouterr().err
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
    assert main(["reproduce", "learning", *short]) == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "records/smoke/cells").iterdir()]
    assert all(set(record["responses"]) == {"stage 1", "stage 2", "stage 3", "final"} for record in records)
    assert (tmp_path / "records/smoke/learning.png").stat().st_size > 10_000


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
        (["learning", "--only", "Attention-57"], "no such row; there are Attention-56, residual learning"),
        (["learning", "--shard", "3/2"], "--shard is i/n"),
        (["learning", "--seeds", "0"], "seeds must be at least 1"),
        (["learning", "--protocol", "quick"], "--protocol has no choice 'quick'"),
    ],
)
def test_bad_arguments_are_answered_in_a_line(capsys, arguments, message):
    assert main(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err


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
