"""The demo and the report in a real headless Chromium, if one is installed."""

import gc
import http.server
import json
import os
import shutil
import struct
import tempfile
import threading
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import ClassVar

import pytest

from residual_attention.checkpoints import load
from residual_attention.demo.session import example_images

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
gradio = pytest.importorskip("gradio", reason="gradio is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path; `make browser` installs one"),
    pytest.mark.filterwarnings("ignore"),  # Gradio's and its servers' own
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def demo(finished):
    """A served demo: its address and the run's examples."""
    from residual_attention.demo.page import launch

    examples = example_images([finished / "examples"])
    address = launch(load(finished), "digits", examples=examples, block=False)
    yield address, examples
    gradio.close_all()
    gc.collect()  # loops that Gradio leaves open are reported here, not in a later module


@pytest.fixture
def page(browser, demo):
    opened = browser.new_page(viewport={"width": 1200, "height": 1000})
    requests: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(demo[0])
    opened.wait_for_selector("#upload input[type=file]", state="attached", timeout=60_000)
    yield opened
    assert all(url.startswith((demo[0], "data:", "blob:")) for url in requests), "a request left the machine"
    opened.close()


def shown(page) -> str:
    """URL of the overlay picture; it changes with the picture."""
    page.wait_for_selector("#overlay img", timeout=60_000)
    return page.get_attribute("#overlay img", "src")


def changed(page, before: str) -> str:
    page.wait_for_function(
        "before => { const i = document.querySelector('#overlay img'); return i && i.src !== before }",
        arg=before,
        timeout=30_000,
    )
    return shown(page)


def upload(page, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", str(path))


def test_an_uploaded_image_is_classified_and_the_slider_changes_the_overlay(page, demo):
    upload(page, demo[1][0])
    first = shown(page)
    assert "%" in page.inner_text("#classes")
    assert "stages.2.1" in page.inner_text("#line")
    page.fill("#module input[type=number]", "0")
    page.press("#module input[type=number]", "Enter")
    second = changed(page, first)
    page.wait_for_function("document.querySelector('#line').innerText.includes('stages.0.1')")
    page.get_by_label("mean over channels").click()
    changed(page, second)
    assert page.locator("#triple img").count() == 3


def test_an_example_is_one_click(page):
    page.locator("#examples img").nth(2).click()
    shown(page)
    assert "%" in page.inner_text("#classes")


def test_the_page_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#examples img").first.click()
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    heights = [page.locator(f"{gallery} .grid-wrap").bounding_box()["height"] for gallery in ("#examples", "#triple")]
    assert all(height < 300 for height in heights), "a gallery is mostly empty"


def png_of(width: int, height: int) -> bytes:
    """A valid black grayscale PNG, never decoded in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj()
    row = bytes(width + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("notes.txt", b"not an image at all", "not an image"),
        ("huge.png", png_of(10_000, 10_000), "above the limit of 64,000,000 pixels"),
    ],
)
def test_a_file_that_is_not_an_image_is_refused_with_a_reason(page, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    upload(page, tmp_path / name)
    page.get_by_text(sentence).first.wait_for(timeout=30_000)
    assert str(Path(tempfile.gettempdir()) / "gradio") not in page.inner_text("body")
    assert page.locator("#overlay img").count() == 0


def called(address: str, path: str) -> str:
    """The server's reply to a tampered page: the events of one call on a file at ``path``."""
    body = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
    headers = {"Content-Type": "application/json"}
    call = urllib.request.Request(address + "gradio_api/call/classify", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(call, timeout=30) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/classify/{event}", timeout=30) as answer:
        return answer.read().decode()


def uploaded(address: str, path: Path) -> str:
    """The server's path of a file that was actually uploaded."""
    boundary = "a-boundary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
    body = f"{head}Content-Type: image/png\r\n\r\n".encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with urllib.request.urlopen(urllib.request.Request(address + "gradio_api/upload", body, headers)) as answer:
        return json.load(answer)[0]


def test_uploads_are_accepted_and_server_paths_are_not(demo):
    address, examples = demo
    assert "event: complete" in called(address, uploaded(address, examples[0]))
    events = called(address, "/etc/passwd")
    assert "event: error" in events
    assert "root:" not in events


class Quiet(http.server.BaseHTTPRequestHandler):
    """A web server for one image that logs its requests."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_addresses_are_not_fetched(demo):
    server = http.server.HTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    elsewhere = f"http://127.0.0.1:{server.server_port}/a.png"
    try:
        assert "event: error" in called(demo[0], elsewhere)
        for kind in ("file", "proxy"):
            for name in (elsewhere, "https://example.com/a.png"):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(f"{demo[0]}gradio_api/{kind}={name}", timeout=30)
                assert refused.value.code == 403
                assert b"URLs are not accepted" in refused.value.read()
    finally:
        server.shutdown()
    assert Quiet.asked == []


def test_another_name_for_this_machine_is_not_answered(demo):
    with urllib.request.urlopen(demo[0], timeout=30) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(urllib.request.Request(demo[0], headers={"Host": "evil.example"}), timeout=30)


@pytest.mark.parametrize("width", [390, 1200])
def test_the_report_fits_and_asks_for_nothing(browser, finished, width):
    opened = browser.new_page(viewport={"width": width, "height": 900})
    requests: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto((finished / "report.html").as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    tables = "[...document.querySelectorAll('.wide:has(table)')]"
    assert opened.evaluate(f"{tables}.length && {tables}.every(each => each.scrollWidth <= each.clientWidth)")
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert [url for url in requests if not url.startswith("data:")] == [(finished / "report.html").as_uri()]
    opened.close()
