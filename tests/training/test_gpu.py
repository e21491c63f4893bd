"""The same runs on a CUDA GPU: in each precision, compiled, with figures read late, and as the CPU computes them."""

import math
from dataclasses import replace

import pytest
import torch
import yaml

from residual_attention.attention.readings import look, read
from residual_attention.checkpoints import load
from residual_attention.checkpoints.format import read_checkpoint
from residual_attention.classification.task import prepare_classification
from residual_attention.cli.main import main
from residual_attention.tasks import resume, train
from residual_attention.training import loop, step
from residual_attention.training.distributed import Processes
from residual_attention.training.machine import resolve_machine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


@pytest.mark.parametrize("precision, how", [("fp32", ""), ("bf16", ""), ("fp16", ""), ("bf16", "compile")])
def test_a_run_and_its_extension(tiny_config, precision, how):
    config = tiny_config(device="cuda", precision=precision, compile="on" if how else "off")
    summary = train(config)
    assert summary["hardware"]["gpu"]
    assert summary["precision"] == precision
    assert resume(config.out, epochs=3, json=True)["epochs"] == 3


def test_recorded_passes_compute_what_the_network_computes(tiny_config):
    """Side 8 at first, then 16: two graphs in one pool. In fp32, with dropout; only the order of sums differs."""
    found = []
    for graphs in ("off", "on"):
        config = tiny_config(device="cuda", cuda_graphs=graphs, image_size=16, progressive=0.5, epochs=4)
        config = replace(config, out=config.out.with_name(f"graphs-{graphs}"))
        train(config)
        tensors = read_checkpoint(config.out / "checkpoints" / "last.safetensors")[0]
        found.append(tensors)
        assert yaml.safe_load((config.out / "config.yaml").read_text())["cuda_graphs"] == graphs
    for name, value in found[0].items():
        assert torch.allclose(value.float(), found[1][name].float(), atol=2e-3, rtol=1e-2), name


def test_a_gradient_that_is_not_finite_is_found_before_the_next_save(tiny_config, monkeypatch):
    config = tiny_config(device="cuda", checkpoint_steps=1, epochs=1, ema=0.0)
    backward = step._backward

    def poisoned(job, state, batch):
        result = backward(job, state, batch)
        if state.progress.step == 3:
            next(state.model.parameters()).grad[0] = math.inf
        return result

    monkeypatch.setattr(step, "_backward", poisoned)
    with pytest.raises(ValueError, match="step 3: the gradient is"):
        train(config)
    tensors, metadata = read_checkpoint(config.out / "checkpoints" / "last.safetensors")
    assert metadata["training"]["progress"]["step"] == 3
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_batches_do_not_depend_on_the_device(tiny_config):
    found = {}
    for device in ("cpu", "cuda"):
        config = tiny_config(device=device, mixup=0.2, cutmix=1.0, shift=0.1)
        task = prepare_classification(config, resolve_machine(config), Processes(), None).task
        found[device] = list(task.batches(1, 0))
    for one, other in zip(found["cpu"], found["cuda"], strict=True):
        assert torch.allclose(one.images, other.images.cpu(), atol=1e-4)
        assert torch.allclose(one.targets, other.targets.cpu(), atol=1e-6)


def test_no_step_waits_for_the_gpu(tiny_config, monkeypatch):
    config = tiny_config(device="cuda", epochs=1, ema=0.9, mixup=0.2, clip_grad=1.0)
    train_step = loop.train_step

    def watched(job, state, batch):
        # the first step loads kernels, the last one draws histograms of the gradients
        torch.cuda.set_sync_debug_mode("error" if state.progress.step in range(1, 5) else "default")
        try:
            return train_step(job, state, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop, "train_step", watched)
    assert train(config)["status"] == "done"


def test_masks_and_readings_equal_those_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = load("attention56_cifar.cifar10")
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    on_cpu = look(model, images)
    on_gpu = look(model.cuda(), images.cuda())
    for name, mask in on_cpu.masks.items():
        assert torch.allclose(mask, on_gpu.masks[name].cpu(), atol=1e-3), name
    for name, chart in read(on_cpu, "class").items():
        other = read(on_gpu, "class")[name].cpu()
        assert torch.allclose(chart, other, atol=1e-2 * chart.abs().max()), name


def test_commands_on_a_trained_network(tiny_config, write_image_folder, tmp_path, capsys):
    folder = write_image_folder(tmp_path / "photos")
    config = tiny_config(data=str(folder), device="cuda", limit_train=None, image_size=32, rotation=0.0)
    train(config)
    for command in ("eval", "predict", "attend"):
        more = [str(folder)] if command == "eval" else [str(next(folder.rglob("*.png")))]
        out = ["--out", str(tmp_path / "sheets")] if command == "attend" else []
        assert main([command, str(config.out), *more, *out]) == 0
    assert "error" in capsys.readouterr().out
