"""`python -m masslib`: the commands. Each is a module with `add_arguments(parser)` and `main(options) -> int`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from masslib._util.extras import needed_by

# Name -> module, imported when the command is used, and what it does
_COMMANDS = {
    "doctor": ("masslib.doctor.command", "tell what is wrong with this installation, and what to type to mend it"),
    "serve": ("masslib.serving.command", "answer requests for packages over HTTP"),
    "versions": ("masslib.serving.versions", "show the versions that a service answers with, label them, roll back"),
    "launch": ("masslib.launcher.script", "run a script in several workers, on this machine or on many"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m masslib", description="Train, compress and serve Keras 3 models.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, what) in _COMMANDS.items():
        command = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        if arguments[:1] == [name]:
            try:
                with needed_by(f"python -m masslib {name}"):
                    import_module(_COMMANDS[name][0]).add_arguments(command)
            except ModuleNotFoundError as error:
                print(f"problem: {error}")
                return 1
    options = parser.parse_args(arguments)
    return import_module(_COMMANDS[options.command][0]).main(options)


if __name__ == "__main__":
    sys.exit(main())
