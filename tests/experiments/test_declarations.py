"""Declarations and tables: every row is a network, every sentence and figure on a page matches its cells."""

import csv
import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from residual_attention.classification.config import TrainConfig
from residual_attention.experiments import protocols
from residual_attention.experiments.cells import Places, cells_of
from residual_attention.experiments.declarations import EXPERIMENTS
from residual_attention.experiments.protocols import PROTOCOLS, applies, configure
from residual_attention.experiments.runner import todo
from residual_attention.experiments.slices import Slice
from residual_attention.experiments.tables import line_of
from residual_attention.family import VARIANTS, create_model

RECORDS = Path(__file__).resolve().parents[2] / "results" / "reproduce"
ROWS = [(e, row) for e in EXPERIMENTS.values() for row in e.rows]


@pytest.mark.parametrize("experiment, row", ROWS, ids=[f"{e.name}: {row.label}" for e, row in ROWS])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_row_is_a_complete_configuration_of_a_network_that_exists(protocol, experiment, row):
    assert row.model in VARIANTS
    assert set(row.changes) <= {field.name for field in fields(TrainConfig)}
    if not applies(protocol, row):
        left_out = {"smoke": "452" in row.label or row.data != "cifar10", "cpu": row.data == "imagenet"}
        left_out["mini"] = row.data == "imagenet" or row.deep
        assert left_out[protocol]
        return
    config = configure(protocol, experiment, row, 3)
    assert (config.model, config.seed) == (row.model, 3)
    assert config.data == ("digits" if protocol == "smoke" else row.data)
    if protocol == "cpu":  # the networks are the same in every protocol; for deep ones, one module per stage suffices
        with torch.device("meta"):
            create_model(row.model, num_classes=10, **{**config.network_overrides(), "modules": 1})


def test_every_protocol_says_what_its_cells_are():
    """The sentences on the pages match the configurations."""
    learning, wide, imagenet = (EXPERIMENTS[name] for name in ("learning", "wide_learning", "imagenet"))
    cells = {p: configure(p, learning, learning.rows[0], 0) for p in PROTOCOLS}
    assert cells["smoke"].steps == 150
    assert "150 steps of 64" in protocols.describe("smoke", learning)
    assert (cells["cpu"].epochs, cells["cpu"].limit_train, cells["cpu"].batch_size) == (4, 10_000, 64)
    assert "10,000 balanced" in protocols.describe("cpu", learning)
    mini = cells["mini"]
    assert (mini.image_size, mini.epochs, 45_000 // mini.batch_size * mini.epochs) == (16, 12, 4_212)
    assert "4,212 steps of 128" in protocols.describe("mini", learning)
    assert cells["paper"].steps == 160_000
    assert "160,000 steps" in protocols.describe("paper", learning)
    assert cells["modern"].epochs == 200
    assert "200 epochs" in protocols.describe("modern", learning)
    for protocol, name in (("paper", "classic"), ("modern", "modern")):
        assert configure(protocol, wide, wide.rows[0], 0).recipe == name
    assert "`--recipe classic`, at most 100 epochs" in protocols.describe("paper", wide)
    assert "200 epochs" in protocols.describe("modern", wide)
    assert configure("paper", imagenet, imagenet.rows[0], 0).steps == 530_000
    assert "530,000 steps" in protocols.describe("paper", imagenet)
    assert configure("modern", imagenet, imagenet.rows[0], 0).epochs == 100
    assert "100 epochs" in protocols.describe("modern", imagenet)


def test_the_cpu_protocol_has_the_images_and_steps_that_it_says():
    for path in (RECORDS / "cpu" / "cells").glob("*.json"):
        record = json.loads(path.read_text())
        assert (record["train"]["images"], record["val"]["images"]) == (10_000, 5_000), path.name
        assert (record["steps"], record["test"]["images"]) == (624, 10_000), path.name


@pytest.mark.parametrize("protocol", ["smoke", "cpu"])
def test_the_recorded_tables_match_their_cells(protocol):
    """The tables under ``results/``; a recorded cell missing from its table is as wrong as a different figure."""
    places, compared = Places(Path("no runs here"), RECORDS), 0
    for experiment in EXPERIMENTS.values():
        lines = [line_of(experiment, row, protocol, places, 1) for row in experiment.rows]
        path = RECORDS / protocol / f"{experiment.name}.csv"
        if not path.is_file():
            continue
        for line, told in zip(lines, csv.DictReader(path.read_text().splitlines()), strict=True):
            assert told["setting"] == line.row.label
            assert int(told["n"]) == len(line.errors)
            assert told["test_error_pct"] == ("" if line.mean is None else f"{line.mean:.6g}")
            compared += bool(line.errors)
        page = (RECORDS / protocol / f"{experiment.name}.md").read_text()
        assert protocols.describe(protocol, experiment) in page
        assert all(f"| {line.mean:.2f}" in page for line in lines if line.mean is not None)
    assert compared >= 4


def test_the_reported_figures_are_those_of_the_design():
    reported = {row.label: row.reported_error_pct for e in EXPERIMENTS.values() for row in e.rows}
    assert reported["Attention-164, naive learning"] == 7.18
    assert reported["Attention-92, 70 % noise"] == 15.75
    assert reported["ResNet-164, 70 % noise"] == 17.21
    assert reported["Attention-452, CIFAR-100"] == 20.45
    assert reported["Attention-92 wide, naive"] == 40.05
    assert reported["Attention-452 wide, no pool"] == 2.43
    rows = {row.label: row for row in (*EXPERIMENTS["imagenet"].rows, *EXPERIMENTS["wide_errors"].rows)}
    inception, large = rows["AttentionInception-56"], rows["Attention-92, tested at 320 px"]
    assert (inception.reported_error_pct, inception.reported_top5_error_pct) == (20.36, 5.29)
    assert (large.reported_error_pct, large.test_px) == (19.5, 320)
    wide = rows["Attention-92 wide"]
    assert (wide.reported_train_error_pct, wide.reported_val_error_pct, wide.reported_time_s) == (36.1, 33.19, 24180)
    assert wide.reported_error_pct is None  # the reported figure is a validation error


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


def test_slices_cover_every_cell_once(tmp_path):
    places = Places(tmp_path / "runs", tmp_path / "records")
    every = [one.cell.key for one in todo(EXPERIMENTS.values(), "cpu", places, 2, {})]
    parts = [todo(EXPERIMENTS.values(), "cpu", places, 2, {}, Slice(i, 3)) for i in (1, 2, 3)]
    assert sorted(one.cell.key for part in parts for one in part) == sorted(every)
    assert len(set(every)) == len(every)
