"""Worker processes end with the program."""

import subprocess
import sys

GIVEN_UP = """
import torch
from residual_attention.data.workers import BatchKeys, file_loader

class Files(torch.utils.data.Dataset):
    def __getitem__(self, index):
        return torch.zeros(3, 8, 8, dtype=torch.uint8), torch.tensor(0), index

kept = []
for stay in (False, True):
    batches = iter(file_loader(Files(), BatchKeys([[i] for i in range(50)]), 1, torch.device("cpu"), workers_stay=stay))
    next(batches)
    kept.append(batches)
print("leaving")
"""


def test_an_iteration_that_was_given_up_does_not_keep_the_program():
    done = subprocess.run([sys.executable, "-c", GIVEN_UP], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")
