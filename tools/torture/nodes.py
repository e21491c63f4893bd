"""Two nodes, each with its own torchrun and network: one drops out of a run and comes back."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from residual_attention.checkpoints import read_checkpoint

from . import launch, small
from .launch import RESTARTS, STEPS
from .parts import Tally, Task

FULL = 10
NAMES = ("torture0", "torture1")
ADDRESSES = ("10.213.77.1", "10.213.77.2")
AWAY_S = 20.0  # at most; torchrun misses a node after 15 s


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True, timeout=60)


@contextmanager
def _two_nodes() -> Iterator[None]:
    """Two network namespaces with a cable between them. Raises OSError where they cannot be made."""
    try:
        for name in NAMES:
            _ip(f"netns add {name}")
        _ip("link add {0} netns {0} type veth peer name {1} netns {1}".format(*NAMES))
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            _ip(f"-n {name} addr add {address}/24 dev {name}")
            _ip(f"-n {name} link set {name} up")
            _ip(f"-n {name} link set lo up")
    except subprocess.CalledProcessError as error:
        _remove_nodes()
        raise OSError(error.stderr) from error
    try:
        yield
    finally:
        _remove_nodes()


def _remove_nodes() -> None:
    for name in NAMES:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=60)


def _node(number: int, run: Path, plugin: Path, log: Path) -> "subprocess.Popen[bytes]":
    """torchrun on one node; the first has the meeting point.

    torchrun would find that out by the host's name, but both nodes have the same, and no entry for these addresses. And
    while it shares its store with the processes, it gives the address once: a node that comes back waits in vain.
    """
    arguments = (
        f"--nnodes 2 --nproc-per-node 1 --max-restarts {RESTARTS} --rdzv-backend c10d "
        f"--rdzv-endpoint {ADDRESSES[0]}:29511 --rdzv-conf is_host={int(number == 0)} --rdzv-id {run.name} "
        f"--local-addr {ADDRESSES[number]}"
    )
    own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    environment = launch.environment(run, [], GLOO_SOCKET_IFNAME=NAMES[number], STEP_S="1", **own_store)
    command = ["ip", "netns", "exec", NAMES[number], *launch.command(arguments, run, plugin)]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)


def _steps_done(run: Path) -> int:
    try:
        return read_checkpoint(run / "checkpoints" / "last.safetensors")[1]["training"]["progress"]["step"]
    except ValueError:
        return -1


def _kill_node(process: "subprocess.Popen[bytes]", name: str) -> None:
    """Every process of the node at once, as when its power goes."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=60).stdout.split()
    launch.send([int(pid) for pid in found], signal.SIGKILL)
    process.wait()


def _lose_and_return(run: Path, plugin: Path, log: Path, draw: random.Random) -> tuple[str, str | None]:
    """How the second node dropped out of a run, and what went wrong after it came back."""
    at, unplugged, away_s = draw.randrange(STEPS - 1), draw.random() < 0.5, draw.uniform(0, AWAY_S)
    way = "cable pulled" if unplugged else "killed"
    nodes = [_node(number, run, plugin, log) for number in range(2)]
    deadline = time.monotonic() + launch.LIMIT_S
    try:
        launch.waited(lambda: _steps_done(run) >= at or nodes[0].poll() is not None)
        if _steps_done(run) < at:
            return way, f"did not reach step {at}: {launch.tail(log)}"
        if unplugged:  # the other node gets no last word
            _ip(f"-n {NAMES[1]} link set {NAMES[1]} down")
        _kill_node(nodes[1], NAMES[1])
        time.sleep(away_s)
        if unplugged:
            _ip(f"-n {NAMES[1]} link set {NAMES[1]} up")
        lost_at = _steps_done(run)
        nodes[1] = _node(1, run, plugin, log)
        codes = [node.wait(max(1.0, deadline - time.monotonic())) for node in nodes]
        if codes != [0, 0]:
            return way, f"after step {lost_at}, {away_s:.0f} s: exit {codes}: {launch.tail(log)}"
        return way, None
    except subprocess.TimeoutExpired:
        return way, f"did not end within {launch.LIMIT_S} s: {launch.tail(log)}"
    finally:
        for node, name in zip(nodes, NAMES, strict=True):
            _kill_node(node, name)


def lost_nodes(task: Task, plugin: Path, expected: Path) -> Tally:
    tally, draw = Tally(), task.random
    if shutil.which("ip") is None or os.geteuid() != 0:
        tally.outcomes["not run: needs root and the command ip"] = 0
        return tally
    try:
        with _two_nodes():
            for number in task.numbers(FULL):
                run, log = task.folder / f"run-{number}", task.folder / f"log-{number}"
                way, failure = _lose_and_return(run, plugin, log, draw)
                failure = failure or small.difference(run, expected)
                tally.bad(f"{way}: {failure}") if failure else tally.good(f"identical, {way}")
    except OSError as error:
        tally.outcomes[f"not run: no network namespaces here ({error})"] = 0
    return tally
