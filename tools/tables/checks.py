"""What `ran check` found of planted errors, and in CIFAR-10."""

from typing import Any

from .markdown import machine, read, table

NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def _of(name: str, found: dict[str, Any]) -> list[str]:
    labels, copies = found["labels"], found["copies"]
    return [
        f"{NAMES[name]}, features of `{found['network']}`",
        f"{found['agreement_pct']} %",
        f"{labels['suspects']:,}",
        f"{labels['recall_pct']} %",
        f"{labels['precision_pct']} %",
        f"{labels['precision_of_first_100_pct']} %",
        f"{copies['recall_pct']} %",
        f"{copies['precision_pct']} %",
        f"{sum(found['time_s'].values()):.0f} s",
    ]


def planted() -> str:
    record = read("check_cifar10")
    if record is None:
        return "Not run."
    header = ["images", "agreement", "suspects", "labels: recall", "precision", "of the first 100"]
    rows = [_of(name, found) for name, found in record["planted"].items()]
    kinds = "; ".join(
        f"{NAMES[name]}: "
        + ", ".join(f"{kind} {pct:.0f} %" for kind, pct in found["copies"]["recall_by_kind_pct"].items())
        for name, found in record["planted"].items()
    )
    photos = record.get("photos")
    spent = ""
    if photos:
        seconds, (width, height) = sum(photos["time_s"].values()), photos["median_px"]
        spent = f" {photos['images']} photographs of about {width} x {height} px take {seconds:.0f} s."
    note = (
        f"Recall of copies by kind: {kinds}.\n"
        "No network saw these images in training, but the CIFAR-100 weights started from CIFAR-10's, so they know its\n"
        "classes: expect lower scores than the first row on your own data. To the CIFAR-10 weights, the classes of\n"
        f"CIFAR-100 are new, and there are 100 images of each.{spent}\n"
        f"`{record['command'].split(' --')[0]}`, seed {record['seed']}; {machine(record)}."
    )
    return f"{table([*header, 'copies: recall', 'precision', 'time'], rows)}\n\n{note}"


def found() -> str:
    record = read("check_cifar10")
    if record is None:
        return "Not run."
    own = record["cifar10"]
    copies, suspects = own["copies"], own["suspects"]
    rows = [
        ["images that are near copies of another", f"{copies['near']:,} of {own['images']:,}"],
        ["exact copies", f"{copies['exact']:,}"],
        ["test images with a copy in training", f"{copies['test_images_with_a_copy_in_train']:,}"],
        ["sets of copies with several classes", f"{copies['sets_of_several_classes']:,}"],
        ["suspect labels in training", f"{suspects['train']:,} of 50,000"],
        ["suspect labels in test", f"{suspects['test']:,} of 10,000"],
        ["time", f"{sum(own['time_s'].values()):.0f} s"],
    ]
    note = (
        f"The regression agrees with {own['agreement_pct']} % of the labels. These are suspects; nobody has confirmed\n"
        "them as errors. Its features come from weights that started from weights trained on these images, so\n"
        "memorised errors are missed."
    )
    return f"{table(['in CIFAR-10', 'found'], rows)}\n\n{note}"
