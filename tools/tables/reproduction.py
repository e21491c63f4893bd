"""Progress on the paper's tables and claims, protocol by protocol, from the records under ``results/reproduce``."""

from residual_attention.experiments import claims
from residual_attention.experiments.cells import Places, records_of
from residual_attention.experiments.declarations import EXPERIMENTS
from residual_attention.experiments.protocols import PROTOCOLS, applies

from .markdown import ROOT, table

PLACES = Places(ROOT / "runs" / "reproduce", ROOT / "results" / "reproduce")


def _done(protocol: str, name: str) -> str:
    """``3 of 8 rows``, with a link to the page; *not run* if none, a dash if the protocol has no such rows."""
    experiment = EXPERIMENTS[name]
    rows = [row for row in experiment.rows if applies(protocol, row)]
    if not rows:
        return "–"
    ran = sum(bool(records_of(protocol, experiment, row, PLACES)) for row in rows)
    if not ran:
        return "not run"
    page = PLACES.records / protocol / f"{name}.md"
    text = f"{ran} of {len(rows)} rows"
    return f"[{text}](../{page.relative_to(ROOT)})" if page.is_file() else text


def overview() -> str:
    """One row per experiment, one column per protocol."""
    rows = [
        [f"`{name}`: {experiment.title}", *(_done(protocol, name) for protocol in PROTOCOLS)]
        for name, experiment in EXPERIMENTS.items()
    ]
    return table(["table", *PROTOCOLS], rows)


SMALLEST = "smoke"  # single runs on digits decide nothing


def verdicts() -> str:
    """The claims table of every protocol with runs, and the names of protocols without."""
    parts, idle = [], []
    for name, protocol in PROTOCOLS.items():
        if name == SMALLEST:
            continue
        findings = [claims.find(claim, name, PLACES) for claim in claims.CLAIMS]
        if all(finding.verdict == "not run" for finding in findings):
            idle.append(f"*{name}*")
            continue
        counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in claims.VERDICTS}
        listed = ", ".join(f"*{verdict}* {count}" for verdict, count in counts.items() if count)
        parts.append(f"Protocol *{name}*: {protocol.description} Of {len(findings)} claims: {listed}.")
        parts.append(claims.markdown(name, PLACES))
    if idle:
        parts.append(f"Not run at all: {', '.join(idle)}. At their scale, every claim is untested here.")
    return "\n\n".join(parts)


def in_short() -> str:
    """The verdicts of the CIFAR runs at the affordable scale, for the claims that have runs."""
    protocol = "cpu"
    every = [claims.find(claim, protocol, PLACES) for claim in claims.CLAIMS]
    rows = [_short(finding) for finding in every if finding.estimate is not None]
    if not rows:
        return "Not run yet on CIFAR."
    header = ["claim", "paper's section", "here", "in the claim's favour", "runs of each row"]
    note = f"{PROTOCOLS[protocol].description} {len(every) - len(rows)} further claims were not run at this scale."
    return f"{table(header, rows)}\n\n{note}"


def _short(finding: claims.Finding) -> list[str]:
    runs = " / ".join(map(str, finding.runs))
    return [finding.claim.text, finding.claim.source, f"**{finding.verdict}**", finding.measured, runs]
