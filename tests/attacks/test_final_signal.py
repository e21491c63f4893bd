"""A signal after the last step: exit 143 at once, and ``ran resume`` finishes the evaluation and the report."""

import json
import os
import signal
from pathlib import Path

import pytest

from residual_attention.classification.config import TrainConfig
from residual_attention.tasks import resume, train
from residual_attention.training import results
from residual_attention.training.interrupt import Interrupted

pytestmark = pytest.mark.slow  # run by `make test-slow`


@pytest.mark.parametrize("place", ["load_best", "draw", "_say_end"])
def test_the_report_is_finished_by_resume(tiny_config, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    config: TrainConfig = tiny_config(epochs=1)
    function = getattr(results, place)

    def stopping(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(results, place, stopping)
        with pytest.raises(Interrupted, match="stopped in the final evaluation") as stopped:
            train(config)
    assert stopped.value.exit_code == 143
    run: Path = config.out  # type: ignore[assignment]
    assert (run / "report.html").exists() == (place == "_say_end")
    resume(run, json=True)
    assert json.loads((run / "summary.json").read_text())["status"] == "done"
    assert (run / "report.html").is_file()
