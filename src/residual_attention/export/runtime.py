"""ONNX Runtime for browsers: fetched by npm at a pinned version, checked against its hash, cached, never vendored."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..atomic import write_atomically
from ..data.cache import cache_folder
from ..errors import UserError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # SHA-512
SCRIPT, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
NPM_TIMEOUT_S = 300


@dataclass(frozen=True)
class Runtime:
    """The JavaScript module and the WebAssembly that it runs."""

    script: bytes
    binary: bytes


def _read(folder: Path) -> Runtime | None:
    """The two files in ``folder``, its ``dist`` or its ``package/dist``."""
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        if (place / SCRIPT).is_file() and (place / BINARY).is_file():
            return Runtime((place / SCRIPT).read_bytes(), (place / BINARY).read_bytes())
    return None


def _npm_pack(folder: Path) -> Path:
    """Have npm download the package into ``folder``. Raises UserError without npm, or if the download fails."""
    instead = f"or give --runtime FOLDER with {SCRIPT} and {BINARY} of {PACKAGE} {VERSION}"
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"a page needs npm once, to fetch {PACKAGE} {VERSION}: install Node.js, {instead}")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(folder), "--silent"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_TIMEOUT_S)
        reason = next(iter(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
    except subprocess.TimeoutExpired:
        done, reason = None, f"no answer within {NPM_TIMEOUT_S} s"
    archives = list(folder.glob("*.tgz"))
    if done is None or done.returncode or len(archives) != 1:
        raise UserError(f"npm cannot fetch {PACKAGE} {VERSION} ({reason}); connect to the network once, {instead}")
    return archives[0]


def _fetch() -> Runtime:
    with tempfile.TemporaryDirectory() as folder:
        archive = _npm_pack(Path(folder))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != INTEGRITY:
            raise UserError(f"npm's {PACKAGE} {VERSION} does not match its pinned SHA-512; it was not used")
        with tarfile.open(archive) as packed:
            found = [packed.extractfile(f"package/dist/{name}") for name in (SCRIPT, BINARY)]
            script, binary = (file.read() for file in found if file is not None)
    return Runtime(script, binary)


def web_runtime(folder: Path | None = None) -> Runtime:
    """The runtime from ``folder``, from the cache, or from npm, which is then cached.

    Raises UserError: the folder does not hold it, npm is missing or offline, or the download is not the pinned one.
    """
    if folder is not None:
        if (found := _read(folder)) is None:
            raise UserError(f"--runtime {folder}: {SCRIPT} and {BINARY} of {PACKAGE} not found")
        return found
    cached = cache_folder() / f"{PACKAGE}-{VERSION}"
    if (found := _read(cached)) is not None:
        return found
    fetched = _fetch()
    cached.mkdir(parents=True, exist_ok=True)
    write_atomically(cached / BINARY, fetched.binary)
    write_atomically(cached / SCRIPT, fetched.script)
    return fetched
