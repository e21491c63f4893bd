"""What `ran audit` found of shortcuts that were planted in CIFAR-10, and of networks without any."""

from typing import Any

from .markdown import machine, read, table


def _share(found: dict[str, Any]) -> str:
    low, high = found["interval_95_pct"]
    return f"{found['count']} of {found['of']} ({found['pct']:.0f} %, 95 % interval {low:.0f} to {high:.0f} %)"


def planted() -> str:
    record = read("audit_planted")
    if record is None:
        return "Not run."
    found, protocol, cells = record["summary"], record["protocol"], record["cells"]
    rows = [["shortcuts found, class and spot right", _share(found["recall"])]]
    rows += [[f"of these, {kind}", counted] for kind, counted in found["recall_by_kind"].items()]
    rows += [
        ["found, and the strongest suspicion", f"{found['first_in_rank']} of {found['recall']['of']}"],
        ["wrong suspicions beside a planted shortcut", str(found["wrong_suspicions_beside_a_shortcut"])],
        ["networks without a shortcut, but with a suspicion", _share(found["false_alarms"])],
    ]
    low, high = found["accuracy_pct"]
    spent = sorted(cell["audit_s"] for cell in cells)[len(cells) // 2]
    note = (
        f"{len(cells)} networks of {protocol['epochs']} epochs on {10 * protocol['train_each']:,} images, accuracy "
        f"{low:.0f} to {high:.0f} %, seeds from {protocol['first_seed']}. Each audit saw "
        f"{10 * protocol['test_each']:,} test images and took {spent:.0f} s (median).\n"
        f"`{record['command'].split(' --')[0]}`; {machine({**record['machine'], 'date': record['date']})}."
    )
    return f"{table(['', 'count'], rows)}\n\n{note}"
