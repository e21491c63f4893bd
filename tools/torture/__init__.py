"""Attacks on this package, by the thousand: flips, faults, power loss, kills, signals, load, malformed input.

    python -m tools.torture --size 0.05 --parts flips faults

Each part tries something many times and counts what came out well. ``results/torture.json`` holds the counts, with
seconds, versions and date. ``--size 1`` is the whole of it (hours on two cores), ``--seconds`` ends each part early.
"""
