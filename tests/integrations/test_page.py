"""docs/integrations.md names a test for each row, and each test is there."""

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PAGE = (FOLDER.parents[1] / "docs" / "integrations.md").read_text()


def test_every_row_is_a_test_and_every_test_of_a_package_is_a_row():
    named = re.findall(r"\| `(test_\w+)` \|", PAGE)
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| tool")]
    assert len(named) == len(set(named)) == len(rows) >= 30
    first, second = (set(re.findall(r"^def (test_\w+)", (FOLDER / f"test_{name}.py").read_text(), re.M))
                     for name in ("installed", "optional"))  # fmt: skip
    assert set(named) <= first | second
    assert second - set(named) == {"test_timm_feature_levels_are_what_decoders_want"}
