"""Where a trunk's weights come from: a file, an address, a hub's folder, the hub; and what is said when they do not."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from residual_attention import create_model
from residual_attention.trunks import hub
from residual_attention.trunks.backbone import read_local

TINY = "test_convnext"  # timm's smallest network with stages of two blocks
TAGGED = f"{TINY}.r160_in1k"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[torch.nn.Module, Path]:
    """A network of timm's, and the file of its weights."""
    torch.manual_seed(3)
    model = timm.create_model(TINY).eval()
    save_file(model.state_dict(), path := tmp_path_factory.mktemp("weights") / "model.safetensors")
    return model, path


@pytest.fixture(scope="module")
def address(trained) -> Iterator[str]:
    """A server of the file, at the paths of the hub too."""
    content = trained[1].read_bytes()

    class Files(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path.endswith("model.safetensors") else 404)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def same_function(network: torch.nn.Module, model: torch.nn.Module) -> bool:
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        return torch.equal(network.eval()(images), model(images))


def test_from_a_file(trained):
    model, path = trained
    assert same_function(create_model("attention_trunk", trunk=TINY, learning="plain", pretrained=path), model)
    attended = create_model("attention_trunk", trunk=TINY, pretrained=str(path)).eval()
    with torch.no_grad():
        images = torch.randn(2, 3, 96, 96)
        assert (attended(images) - model(images)).norm() < 0.1 * model(images).norm()


def test_other_classes_start_from_scratch_and_the_rest_is_kept(trained):
    model, path = trained
    network = create_model("attention_trunk", 5, trunk=TINY, learning="plain", pretrained=path)
    network.reset_classifier(0)
    model_features = model.forward_head(model.forward_features(torch.ones(1, 3, 96, 96)), pre_logits=True)
    assert torch.allclose(network.eval()(torch.ones(1, 3, 96, 96)), model_features, atol=1e-6)


def test_a_trained_trunk_keeps_its_predictions(tmp_path):
    """The same top class on at least 99 % of 1,000 images, before a step is taken."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3)
    images, labels = (images / 8 - 1).expand(-1, 3, -1, -1), torch.tensor(digits.target)
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=10)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(160):
        index = torch.randint(0, 797, (32,))
        torch.nn.functional.cross_entropy(model(images[index]), labels[index]).backward()
        optimizer.step()
        optimizer.zero_grad()
    save_file(model.eval().state_dict(), path := tmp_path / "trained.safetensors")
    attended = create_model("attention_trunk", 10, trunk="mobilenetv3_small_050", pretrained=path).eval()
    with torch.no_grad():
        expected, found = model(images[-1000:]).argmax(1), attended(images[-1000:]).argmax(1)
    assert (expected == labels[-1000:]).double().mean() > 0.5
    assert (expected == found).double().mean() >= 0.99


def test_from_an_address(trained, address, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = create_model("attention_trunk", trunk=TINY, learning="plain", pretrained=f"{address}/model.safetensors")
    assert same_function(network, trained[0])


def test_from_the_hub_and_then_from_its_cache(address, tmp_path):
    """In a process of its own: the hub's client reads its address when it is imported."""
    code = (
        "from residual_attention import create_model\n"
        f"model = create_model('attention_trunk', trunk='{TAGGED}', pretrained=True)\n"
        "print(sum(p.double().sum() for n, p in model.named_parameters() if '.mask.' not in n).item())"
    )
    found = []
    for endpoint in (address, "http://127.0.0.1:9"):  # no server listens there: the cache answers
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.strip().splitlines()[-1])
    assert found[0] == found[1]


def test_offline_is_one_line_at_once(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "_reachable", lambda _endpoint: False)
    with pytest.raises(ValueError, match=f"weights of {TAGGED} cannot be fetched: the hub cannot be reached; give"):
        create_model("attention_trunk", trunk=TAGGED, pretrained=True)
    assert constants.HF_HUB_OFFLINE is False


def test_from_a_folder_of_timms(trained, tmp_path):
    from timm.models import save_for_hf

    model, _ = trained
    save_for_hf(model, tmp_path, model_args={"drop_path_rate": 0.1}, safe_serialization=True)
    trunk, file = read_local(f"local-dir:{tmp_path}")
    assert (trunk.name, trunk.options) == (TINY, {"drop_path_rate": 0.1})
    network = create_model(
        "attention_trunk", trunk=trunk.name, trunk_args=trunk.options, learning="plain", pretrained=file
    )
    assert same_function(network, model)


def test_other_files_are_refused(trained, tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name, why in (
        ("missing.pth", "do not exist"),
        ("text.safetensors", "cannot be read"),
        ("other.safetensors", f"not those of {TINY}"),
    ):
        with pytest.raises(ValueError, match=why):
            create_model("attention_trunk", trunk=TINY, pretrained=tmp_path / name)
    with pytest.raises(ValueError, match=r"no config\.json"):
        read_local(f"local-dir:{tmp_path}")
    with pytest.raises(ValueError, match="timm has no weights for test_coatnet"):
        create_model("attention_trunk", trunk="test_coatnet", pretrained=True)
    with pytest.raises(ValueError, match="pretrained is for attention_trunk"):
        create_model("attention56_cifar", pretrained=True)
