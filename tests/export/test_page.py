"""The classifier as one web page: self-contained, and the same answers in a browser as in PyTorch."""

import base64
import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residual_attention import load, record_masks
from residual_attention.attention.overlay import display_range
from residual_attention.checkpoints import Classifier
from residual_attention.cli.main import main
from residual_attention.data.images import read_image
from residual_attention.errors import UserError
from residual_attention.export import runtime as web
from residual_attention.export.page import page_html

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
MODEL = "attention56_cifar.cifar10"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Path:
    """A folder with the names of a runtime's files."""
    folder = tmp_path_factory.mktemp("runtime")
    (folder / web.SCRIPT).write_text("export const env = {};")
    (folder / web.BINARY).write_bytes(b"\0asm")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory, stand_in) -> Path:
    """The page that the command writes, with a stand-in for the runtime."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["export", MODEL, str(out), "--runtime", str(stand_in)]) == 0
    return out


def carried(html: str, name: str) -> bytes:
    """What the page carries under that id."""
    packed = re.search(rf'id="{name}">([^<]*)</script>', html)
    assert packed is not None
    return gzip.decompress(base64.b64decode(packed[1]))


def test_a_page_holds_everything_and_loads_nothing(exported):
    html = exported.read_text()
    assert carried(html, "wasm") == b"\0asm"
    readable = re.sub(r'<script type="text/plain"[^>]*>[^<]*</script>', "", html)
    assert len(readable) < 40_000
    assert "default-src 'none'" in readable
    assert "http" not in readable.replace("http-equiv", "")
    assert "airplane, automobile, bird" in readable  # for people, beside the card
    network = carried(html, "onnx")
    for private in (str(Path.home()), str(exported.parent), str(Path(__file__).parents[2])):
        assert private not in readable
        assert private.encode() not in network


def test_names_of_classes_cannot_end_the_script():
    network = load(MODEL)
    network.classes[0] = "</script><img src=x>"
    assert "</script><img" not in page_html(network, b"", web.Runtime(b"", b""))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["page.html", "--int8"], "are for .onnx files"),
        (["page.html", "--runtime", "nowhere"], "not found"),
        (["net.onnx", "--runtime", "nowhere"], "--runtime is for OUT.html"),
        (["page.htm"], "must be a .onnx or .html file"),
    ],
)
def test_wrong_calls_are_one_line_and_write_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["export", MODEL, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_without_npm_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(web.shutil, "which", lambda _name: None)
    with pytest.raises(UserError, match=r"install Node\.js, or give --runtime FOLDER"):
        web.web_runtime()


def test_npm_offline_is_one_line(monkeypatch, tmp_path):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(web.shutil, "which", lambda _name: str(npm))
    with pytest.raises(UserError, match=r"npm cannot fetch .*ENOTFOUND.*connect to the network once"):
        web.web_runtime()


def test_another_package_than_the_pinned_one_is_not_used(monkeypatch, tmp_path):
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\necho other > "$4/package.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setattr(web.shutil, "which", lambda _name: str(npm))
    with pytest.raises(UserError, match="does not match its pinned SHA-512"):
        web.web_runtime()


def photographs(folder: Path) -> list[Path]:
    """Files of many shapes and modes: smooth enough that JPEG decoders agree."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(24):
        width, height = (int(side) for side in rng.integers(20, 500, 2))
        coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        if number % 6 == 1:
            image = image.convert("L")
        if number % 6 == 2:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        made.append(folder / f"{number}.{'png' if number % 2 == 0 else 'jpg'}")
        image.convert("RGB" if number % 2 and image.mode == "RGBA" else image.mode).save(made[-1], quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.open(made[3]).save(folder / "turned.jpg", quality=95, exif=exif)
    return [*made, folder / "turned.jpg"]


IN_PAGE = """async (text) => {
  const found = await classify(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]));
  const masks = Object.entries(found.masks).map(([name, mask]) => [name, Array.from(mask.values)]);
  return { probabilities: found.probabilities, masks: Object.fromEntries(masks) };
}"""


def differences(page, network: Classifier, path: Path) -> tuple[float, float, bool]:
    """Largest differences of probabilities and masks between the page and PyTorch, and whether the top class agrees."""
    found = page.evaluate(IN_PAGE, base64.b64encode(path.read_bytes()).decode())
    with torch.no_grad(), record_masks(network) as recording:
        expected = network.probabilities(network(network.preprocess(read_image(path))[None]))[0]
    ours = torch.tensor(found["probabilities"])
    masks = max(
        (torch.tensor(found["masks"][f"mask:{name}"]) - mask.flatten()).abs().max().item()
        for name, mask in recording.masks.items()
    )
    return (ours - expected).abs().max().item(), masks, bool(ours.argmax() == expected.argmax())


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path; `make browser` installs one")
@pytest.mark.filterwarnings("ignore")  # playwright's own
def test_a_browser_gives_pytorchs_answers(tmp_path, monkeypatch, exported):
    playwright = pytest.importorskip("playwright.sync_api")
    monkeypatch.setenv("RAN_DATA", str(Path.home() / ".cache" / "residual_attention" / "data"))  # fetched once
    try:
        runtime = web.web_runtime()
    except UserError as error:
        pytest.skip(str(error))
    network, out = load(MODEL), tmp_path / "page.html"
    out.write_text(page_html(network, carried(exported.read_text(), "onnx"), runtime))
    assert out.stat().st_size < 20e6
    requests: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        guarded = browser.new_page(viewport={"width": 390, "height": 844})
        guarded.on("request", lambda request: requests.append(request.url))
        guarded.goto(out.as_uri())
        guarded.get_by_text("Drop, paste or choose a photo").wait_for(timeout=60_000)
        paths = photographs(tmp_path)
        guarded.set_input_files("#file", str(paths[0]))
        guarded.locator("#classes tr").nth(4).wait_for(timeout=60_000)
        guarded.set_input_files("#file", str(out))
        guarded.get_by_text("cannot be read as an image").wait_for()
        page = browser.new_context(bypass_csp=True, viewport={"width": 390, "height": 844}).new_page()
        page.goto(out.as_uri())
        page.get_by_text("Drop, paste or choose a photo").wait_for(timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        found = [differences(page, network, path) for path in paths]
        flat, varied = [0.487, 0.494, 0.49], [0.2, 0.6, 0.3]
        for values in (flat, varied, [0.5], [0.0]):
            ours = display_range(torch.tensor(values, dtype=torch.float64), signed=False)
            assert page.evaluate("(values) => displayRange(values)", values) == pytest.approx(ours)
        browser.close()
    assert {url.split(":")[0] for url in requests} <= {"file", "blob", "data"}
    assert all(same for *_, same in found)
    assert max(probabilities for probabilities, *_ in found) < 0.01  # a decoder may round a pixel otherwise
    assert sorted(probabilities for probabilities, *_ in found)[len(found) // 2] < 1e-4
    assert max(masks for _, masks, _ in found) < 0.01


def test_npm_packs_where_the_pinned_version_is_asked_for(monkeypatch, tmp_path):
    asked = []

    def run(command, **_options):
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "offline")

    monkeypatch.setattr(web.shutil, "which", lambda _name: "npm")
    monkeypatch.setattr(web.subprocess, "run", run)
    with pytest.raises(UserError, match="offline"):
        web.web_runtime()
    assert asked[0][1:3] == ["pack", f"{web.PACKAGE}@{web.VERSION}"]
