"""The page's memory has a bound, whatever is asked of it."""

import socket

import pytest
import torch
from PIL import Image

from residual_attention.checkpoints import load
from residual_attention.cli.main import main
from residual_attention.demo.guards import check_address
from residual_attention.demo.session import Session, open_session
from residual_attention.demo.store import SessionStore, held_bytes
from residual_attention.errors import UserError

pytestmark = pytest.mark.slow  # run by `make test-slow`


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.new("RGB", (40, 30), (200, 20, 20)).save(path)
    return open_session(load("attention56_cifar.digits"), path)


def test_sessions_are_bounded_in_number_and_the_oldest_goes_first(session: Session) -> None:
    store = SessionStore(max_sessions=3)
    tokens = [store.keep(session) for _ in range(3)]
    assert store.get(tokens[0]) is session  # used again: the next is now the oldest
    tokens.append(store.keep(session))
    assert len(store) == 3
    assert [store.get(token) is not None for token in tokens] == [True, False, True, True]


def test_sessions_are_bounded_in_bytes_but_the_newest_is_kept(session: Session) -> None:
    size = held_bytes((session.picture, session.found))
    assert size > 100_000
    store = SessionStore(max_bytes=2 * size + 1)
    for _ in range(10):
        token = store.keep(session)
        assert store.bytes <= 2 * size + 1
    small = SessionStore(max_bytes=1)
    assert small.get(small.keep(session)) is session
    assert store.get(token) is session


def test_sessions_are_forgotten_with_time(session: Session) -> None:
    now = [0.0]
    store = SessionStore(forget_after_s=10, clock=lambda: now[0])
    token = store.keep(session)
    now[0] = 11
    assert store.get(token) is None
    assert len(store) == 0


def test_a_storage_that_views_share_counts_once() -> None:
    whole = torch.zeros(1000)
    assert held_bytes({"a": whole[:10], "b": whole[10:], "c": [Image.new("RGB", (10, 10))]}) == 4000 + 300


@pytest.mark.parametrize("host", ["999.1.1.1", "203.0.113.7", "a" * 300, "1.2.3.4.5"])
def test_a_host_that_is_not_this_machine_ends_in_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "attention56_cifar.digits", "--host", host]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("ran: error: --host")
    assert "\n" not in error


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UserError, match="is in use; choose another --port"):
            check_address("127.0.0.1", other.getsockname()[1])
