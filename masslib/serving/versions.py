"""`python -m masslib versions FOLDER [NAME]`: show versions, give them labels, roll back."""

from __future__ import annotations

import argparse
from pathlib import Path

from masslib.serving import store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", help="the folder that is served")
    parser.add_argument("name", nargs="?", help="the model; none lists all")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--set", nargs=2, metavar=("LABEL", "VERSION"), help="give a version a label, such as canary")
    group.add_argument("--remove", metavar="LABEL", help="take a label away; without stable the newest answers")
    group.add_argument("--rollback", action="store_true", help="let the version before the present one answer")
    parser.add_argument("--share", type=float, help="share of the requests that the canary answers")


def main(options: argparse.Namespace) -> int:
    """Change what is asked for, and tell how it stands."""
    try:
        print(change(options) if options.name else listing(Path(options.folder)))
    except (ValueError, OSError) as error:
        print(f"problem: {error}")
        return 1
    return 0


def change(options: argparse.Namespace) -> str:
    """Write the labels of one model, and return its line.

    Raises:
        ValueError: If there is no such model, version or label.
    """
    folder, name = Path(options.folder), options.name
    if name not in store.models(folder):
        raise ValueError(f"{folder} holds no model {name!r}; it has {', '.join(store.models(folder)) or 'none'}")
    there, labels = store.versions(folder, name), store.read_labels(folder, name)
    if options.set:
        label, number = options.set
        if not number.isdecimal() or int(number) not in there:
            raise ValueError(f"{name} has no version {number!r}; it has {', '.join(map(str, sorted(there)))}")
        labels.versions[label] = int(number)
    elif options.remove:
        if options.remove not in labels.versions:
            raise ValueError(f"{name} has no label {options.remove!r}; it has {', '.join(labels.versions) or 'none'}")
        del labels.versions[options.remove]
    elif options.rollback:
        labels.versions["stable"] = _before(name, there, labels)
    if options.share is not None:
        labels.canary_share = options.share
    if options.set or options.remove or options.rollback or options.share is not None:
        store.write_labels(folder, name, labels)
    return _line(folder, name)


def _before(name: str, there: dict, labels: store.Labels) -> int:
    present = store.stable(there, labels.versions)
    older = [number for number in there if present is not None and number < present]
    if not older:
        raise ValueError(f"{name} has no version before {present}")
    return max(older)


def listing(folder: Path) -> str:
    """A line per model.

    Raises:
        ValueError: If the folder holds none.
    """
    names = store.models(folder)
    if not names:
        raise ValueError(f"{folder} holds no models; make packages in {folder}/NAME/VERSION")
    return "\n".join(_line(folder, name) for name in names)


def _line(folder: Path, name: str) -> str:
    there, labels = store.versions(folder, name), store.read_labels(folder, name)
    own = {**labels.versions, "stable": store.stable(there, labels.versions)}
    shown = []
    for number in sorted(there):
        names = sorted(label for label, labelled in own.items() if labelled == number)
        shown.append(f"{number} ({', '.join(names)})" if names else str(number))
    return f"{name}: {', '.join(shown) or 'no versions'}"
