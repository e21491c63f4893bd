"""The table of malformed inputs, all of it, and the properties of the parsers with many examples, by pytest."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from .parts import Tally, Task

TESTS = Path(__file__).resolve().parents[2] / "tests" / "attacks"
FULL_EXAMPLES = 3000


def run_pytest(task: Task, *arguments: str, **variables: str) -> Tally:
    """Run tests, each counted; those that the time limit cuts off are not."""
    report = task.folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments]
    process = subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=task.seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate()
    tally = Tally()
    if not report.is_file():
        tally.bad(f"no report within {task.seconds:.0f} s: {output[-300:]}")
        return tally
    for case in ElementTree.parse(report).iter("testcase"):
        failure = next((child for child in case if child.tag in ("failure", "error")), None)
        if failure is None:
            tally.good("as declared")
        else:
            tally.bad(f"{case.get('name')}: {failure.get('message')}")
    return tally


def malformed(task: Task) -> dict[str, Tally]:
    """A share of the table's rows below ``size`` 1: every n-th."""
    rows = {"RAN_ROWS": str(task.size)}
    return {"rows": run_pytest(task, "-m", "slow", str(TESTS / "test_malformed.py"), **rows)}


def parsers(task: Task) -> dict[str, Tally]:
    examples = {"RAN_EXAMPLES": str(task.count(FULL_EXAMPLES))}
    tally = run_pytest(task, str(TESTS / "test_parsers.py"), **examples)
    return {f"parsers, {examples['RAN_EXAMPLES']} examples each": tally}
