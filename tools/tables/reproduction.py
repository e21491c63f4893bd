"""How far the paper's tables are, protocol by protocol, from the records under ``results/reproduce``."""

from residual_attention.experiments import claims
from residual_attention.experiments.cells import Places, cells_of, read_record
from residual_attention.experiments.declarations import EXPERIMENTS
from residual_attention.experiments.protocols import PROTOCOLS

from .markdown import ROOT, table

PLACES = Places(ROOT / "runs" / "reproduce", ROOT / "results" / "reproduce")


def _done(protocol: str, name: str) -> str:
    """``3 of 8 rows``, with a link to the page; *not run* without any."""
    experiment = EXPERIMENTS[name]
    cells = [cells_of(protocol, experiment, row, 1, {}) for row in experiment.rows]
    ran = sum(any(read_record(PLACES, protocol, cell) is not None for cell in row) for row in cells)
    wanted = sum(bool(row) for row in cells)
    if not ran:
        return "not run"
    page = PLACES.records / protocol / f"{name}.md"
    text = f"{ran} of {wanted} rows"
    return f"[{text}](../{page.relative_to(ROOT)})" if page.is_file() else text


def overview() -> str:
    """One row an experiment, one column a protocol."""
    rows = [
        [f"`{name}`: {experiment.title}", *(_done(protocol, name) for protocol in PROTOCOLS)]
        for name, experiment in EXPERIMENTS.items()
    ]
    return table(["table", *PROTOCOLS], rows)


SMALLEST = "smoke"  # one run each on digits, which decides nothing


def verdicts() -> str:
    """The claims table of every protocol that has runs, and the names of those that have none."""
    parts, idle = [], []
    for name, protocol in PROTOCOLS.items():
        if name == SMALLEST:
            continue
        findings = [claims.find(claim, name, PLACES) for claim in claims.CLAIMS]
        if all(finding.verdict == "not run" for finding in findings):
            idle.append(f"*{name}*")
            continue
        counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in claims.VERDICTS}
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        parts.append(f"Protocol *{name}*: {protocol.says} Of {len(findings)} claims: {told}.")
        parts.append(claims.markdown(name, PLACES))
    if idle:
        parts.append(f"Under {' and '.join(idle)} nothing was run: at their scale every claim is untested here.")
    return "\n\n".join(parts)
