"""`python -m masslib serve FOLDER`."""

from __future__ import annotations

import argparse
from dataclasses import fields

from masslib.serving import supervisor
from masslib.serving.settings import FILES, Settings

_HELP = {
    "host": "address to listen at; others than this machine's own reach the service only at 0.0.0.0 or another one",
    "port": "port; 0 takes a free one",
    "workers": "processes that answer; 0 for one per core",
    "threads": "threads of each interpreter",
    "keep": "newest versions of a model that stay loaded besides those with a label",
    "max_batch": "most rows in one call of a model",
    "max_wait": "seconds that a request may wait for others of its batch; 0 batches what arrives at one moment",
    "queue": "most rows that wait for a version; more get 503 and Retry-After",
    "timeout": "seconds after which a waiting request is given up",
    "max_body": "bytes of a request",
    "max_pixels": "pixels of a photo",
    "read_timeout": "seconds within which a request has to arrive whole",
    "idle_timeout": "seconds after which an idle connection is closed",
    "drain": "most seconds that running requests get when the service ends",
    "token_file": "file with bearer tokens that are let in, one a line",
    "ssl_certfile": "certificate (PEM), for HTTPS",
    "ssl_keyfile": "its key",
    "record": "SQLite file or URL of SQLAlchemy where answers are kept",
    "record_share": "share of the answers that are kept",
    "drift_window": "seconds of traffic that are compared with the validation rows",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", help="FOLDER/NAME/VERSION/ are packages of masslib.package")
    defaults = {field.name: field.default for field in fields(Settings)}
    for name, text in _HELP.items():
        default = defaults[name]
        kind = str if default is None else type(default)
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=default, help=text + shown, metavar=name.upper()
        )
    parser.add_argument(
        "--prefer", default=",".join(FILES), help="files of a package that are served, the first that is there"
    )
    parser.add_argument("--access-log", action="store_true", help="a line in the log for every request")
    parser.add_argument("--stop-with-stdin", action="store_true", help=argparse.SUPPRESS)


def main(options: argparse.Namespace) -> int:
    """Serve until a signal."""
    values = {field.name: getattr(options, field.name) for field in fields(Settings)}
    values["prefer"] = tuple(name.strip() for name in options.prefer.split(","))
    try:
        settings = Settings(**values).checked()
        supervisor.run(settings)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"problem: {error}")
        return 1
    return 0
