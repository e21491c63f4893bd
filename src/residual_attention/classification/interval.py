"""The uncertainty of an error that was measured on few images."""

import math


def wilson_interval_pct(wrong: int, total: int) -> tuple[float, float]:
    """The 95 % interval of an error in percent, of ``wrong`` among ``total`` images (Wilson, 1927)."""
    share, z = wrong / total, 1.959964
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)
