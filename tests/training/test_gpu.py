"""The same runs on a CUDA GPU, in each precision and compiled."""

import pytest
import torch

from residual_attention.tasks import resume, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


@pytest.mark.parametrize("precision, compiled", [("fp32", "off"), ("bf16", "off"), ("fp16", "off"), ("bf16", "on")])
def test_a_run_and_its_extension(tiny_config, precision, compiled):
    config = tiny_config(device="cuda", precision=precision, compile=compiled)
    summary = train(config)
    assert summary["hardware"]["gpu"]
    assert summary["precision"] == precision
    assert resume(config.out, epochs=3, json=True)["epochs"] == 3
