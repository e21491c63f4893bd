"""The HTTP endpoint: answers, batches, and what hostile clients get."""

import base64
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from residual_attention import load
from residual_attention.classification.predict import predict
from residual_attention.cli.main import main

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("multipart", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx")

from residual_attention.serve import app as application  # noqa: E402
from residual_attention.serve import limits  # noqa: E402
from residual_attention.serve.answering import Answering, named  # noqa: E402
from residual_attention.serve.running import listening  # noqa: E402


@pytest.fixture(scope="module")
def model(finished):
    return load(finished)


@pytest.fixture(scope="module")
def address(model):
    """A server in a thread, as `ran serve` starts it; a batch waits long enough to fill."""
    import uvicorn

    place = listening("127.0.0.1", 0)
    app = application.build_app(Answering(model, model, 3, 0.5), batch_size=4, wait_s=0.05)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", limit_concurrency=64))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{place.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as found:
        yield found


@pytest.fixture(scope="module")
def digits(finished) -> list[Path]:
    return sorted((finished / "examples").glob("*.png"))


def post(client, *contents: bytes, names: tuple[str, ...] = (), **fields):
    files = [("images", (name, content)) for name, content in zip(names or ("a.png",) * 99, contents, strict=False)]
    return client.post("/predict", files=files, data=fields)


def png(width: int, height: int, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_answers_are_those_of_predict(client, model, digits):
    found = post(client, *(path.read_bytes() for path in digits), names=tuple(path.name for path in digits))
    assert found.status_code == 200
    expected, _ = predict(model, digits, top_k=3, least=0.5)
    for answer, one in zip(found.json()["predictions"], expected, strict=True):
        assert answer["file"] == Path(one.path).name
        assert answer["class"] == one.answer
        assert answer["probability"] == pytest.approx(one.top[0][1], abs=1e-4)
        assert answer["unlike_training"] == one.unlike
        assert len(answer["top"]) == 3


def test_masks_are_pictures_on_request(client, digits, model):
    (answer,) = post(client, digits[0].read_bytes(), masks="true").json()["predictions"]
    assert len(answer["masks"]) == 3
    for content in answer["masks"].values():
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert picture.format == "PNG"
        assert max(picture.size) >= 256
    assert "masks" not in post(client, digits[0].read_bytes()).json()["predictions"][0]


def test_requests_at_the_same_time_share_batches_and_keep_their_own_answers(client, digits):
    alone = [post(client, path.read_bytes()).json()["predictions"][0]["top"] for path in digits]
    before = client.get("/health").json()
    with ThreadPoolExecutor(8) as pool:
        contents = [path.read_bytes() for path in digits]
        together = list(pool.map(lambda content: post(client, content).json()["predictions"][0]["top"], contents * 3))
    after = client.get("/health").json()
    assert after["images"] - before["images"] == 24
    assert after["batches"] - before["batches"] < 20
    for i, top in enumerate(together):
        assert top[0]["class"] == alone[i % 8][0]["class"]
        assert top[0]["probability"] == pytest.approx(alone[i % 8][0]["probability"], abs=1e-4)


def test_a_bad_image_spoils_no_other(client, digits):
    found = post(client, b"no image", digits[0].read_bytes(), digits[1].read_bytes()[:100], names=("x", "y", "z"))
    first, second, third = found.json()["predictions"]
    assert found.status_code == 200
    assert first == {"file": "x", "error": "not an image, or an unsupported format"}
    assert second["class"]
    assert "error" in third
    assert post(client, b"no image").status_code == 422


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + b"\xff" * 500, b"%!PS-Adobe-3.0 EPSF\n", b"<svg onload='x'/>", b"\0" * 5000]
)
def test_hostile_bytes_are_an_error_in_one_line(client, content):
    found = post(client, content, names=("../../etc/passwd",))
    assert found.status_code == 422
    (answer,) = found.json()["predictions"]
    assert answer["file"] == "passwd"
    assert "\n" not in answer["error"]
    assert "Traceback" not in found.text


def test_a_bomb_is_refused_by_its_header(client):
    bomb = bytearray(png(1, 1))
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    started = time.perf_counter()
    (answer,) = post(client, bytes(bomb)).json()["predictions"]
    assert "error" in answer
    assert time.perf_counter() - started < 5
    (answer,) = post(client, png(9000, 8000, "1")).json()["predictions"]
    assert "above the limit of 64,000,000 pixels" in answer["error"]


def test_too_many_files_and_too_many_bytes_are_refused(client, monkeypatch):
    assert post(client, *[b"x"] * 17).status_code == 400
    monkeypatch.setattr(application, "MAX_FILE_MB", 0.001)
    assert post(client, b"x" * 2000).status_code == 413
    monkeypatch.setattr(limits, "MAX_BODY_MB", 0.01)
    assert post(client, b"x" * 20_000).status_code == 413

    def chunks():
        yield b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield b"x" * 1000

    found = client.post("/predict", content=chunks(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert found.status_code == 413  # without a Content-Length


def test_a_slow_client_is_cut_off_and_others_are_served_meanwhile(address, client, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BODY_S", 0.3)
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n--b".encode())
        assert client.get("/health").status_code == 200
        assert b" 408 " in slow.recv(4096).splitlines()[0]


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Host": "evil.example"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_other_hosts_and_other_pages_are_not_answered(client, headers, status):
    assert client.get("/health", headers=headers).status_code == status


@pytest.mark.parametrize(
    "fields",
    [
        {"content": b"text", "headers": {"Content-Type": "text/plain"}},
        {"data": {"images": "no file"}},
        {"json": {"images": ["http://localhost/secret"]}},
        {"content": b"--b\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    ],
)
def test_other_bodies_are_a_clients_error(client, fields):
    found = client.post("/predict", **fields)
    assert found.status_code in (400, 422)
    assert "detail" in found.json()


def test_a_full_queue_is_503(model, digits):
    import asyncio

    import torch

    from residual_attention.serve.batching import Batching, Overloaded

    async def fill() -> None:
        batching: Batching[int] = Batching(lambda images: [0] * len(images), waiting=2)
        asks = [asyncio.create_task(batching.ask(torch.zeros(1, 2, 2))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await asks[2]
        run = asyncio.create_task(batching.run())
        assert await asyncio.gather(*asks[:2]) == [0, 0]
        run.cancel()

    asyncio.run(fill())
    response = asyncio.run(application._errors(None, Overloaded()))
    assert response.status_code == 503


def test_the_interface_is_described_without_other_hosts(client, model):
    api = client.get("/openapi.json").json()
    assert api["openapi"].startswith("3.1")
    assert {"/predict", "/health", "/model"} <= api["paths"].keys()
    schema = api["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["images"]["maxItems"] == limits.MAX_IMAGES
    assert {"200", "413", "422", "503"} <= api["paths"]["/predict"]["post"]["responses"].keys()
    page = client.get("/docs")
    assert client.get("/", follow_redirects=True).text == page.text  # what a browser opens first
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/model").json()["classes"] == list(model.classes)
    assert client.get("/../etc/passwd").status_code == 404


def test_uploads_are_named_without_folders():
    assert named(["a/b.png", "c\\d.png", "", None]) == ["b.png", "d.png", "image 3", "image 4"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--port", "70000"], "port must be between"),
        (["--batch-size", "0"], "batch-size"),
        (["--min-confidence", "2"], "must be a probability"),
        (["--engine", "fast"], "engine must be"),
        (["--host", "203.0.113.9"], "cannot serve on 203.0.113.9"),
    ],
)
def test_wrong_calls_are_one_line(finished, capsys, arguments, message):
    port = [] if "--port" in arguments else ["--port", "0"]
    assert main(["serve", str(finished), *arguments, *port]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert json.dumps(err)
