"""Freed memory is kept, unless the user chose otherwise."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from residual_attention.allocator import keep_freed_memory, release_freed_memory
print({"keep": keep_freed_memory, "release": release_freed_memory}[sys.argv[1]]())
for _ in range(20):
    torch.ones(2**24)  # 64 MiB; the heap grows a few times before a freed block fits
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what: str, **environment: str) -> tuple[bool, int]:
    """Whether the setting was applied, and the page faults of creating a 64 MiB tensor twenty times."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, what], capture_output=True, text=True, check=True, env={**environment}
    )
    taken, count = done.stdout.split()
    return taken == "True", int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_tensors_reuse_memory_instead_of_faulting_pages_in():
    taken, kept = faults("keep")
    if not taken:
        pytest.skip("the C library is not glibc")
    _, released = faults("release")
    assert released > 20 * kept
    assert released > 100_000


def test_what_the_environment_chose_stays():
    taken, _ = faults("keep", MALLOC_MMAP_THRESHOLD_="65536")
    assert not taken
