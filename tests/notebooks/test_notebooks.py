"""The notebooks run from a clean kernel within the promised time, and are committed with their output."""

import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # run by `make test-slow`

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LIMITS_S = {"attention_56": 240, "attention_92": 400}  # twice the time on one busy core without bf16


def read(path: Path):
    return nbformat.read(path, as_version=4)


def outputs(notebook) -> list:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["attention_56", "attention_92"]


@pytest.mark.filterwarnings("default")  # warnings of the kernel's client are not ours
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_a_clean_kernel(path, tmp_path):
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started = time.perf_counter()
    nbclient.NotebookClient(
        notebook, timeout=LIMITS_S[path.stem], kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert time.perf_counter() - started < LIMITS_S[path.stem]
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    stderr = "".join(output.text for output in outputs(notebook) if output.get("name") == "stderr")
    assert [line for line in stderr.splitlines() if not line.startswith("note: ")] == []
    assert list(tmp_path.iterdir()) == []  # runs go to a temporary folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_as_it_ran(path):
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert path.stat().st_size < 1_000_000
    text = path.read_text()
    assert "/home/" not in text
    assert str(FOLDER.parent) not in text
    assert "/tmp/" not in text
