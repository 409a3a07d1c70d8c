"""Install this project in place, with the tested releases of what it needs, into the environment that runs this file.

    python tools/install.py [extra ...]      # without one: what the notebooks and the tests need

uv does it several times faster than pip but reads none of pip's settings, so they are handed over. Where pip
is set up in a way that is not translated here, or uv cannot be had or fails, pip itself does the work.
The environment also gets settings for JupyterLab.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("train", "serve", "notebooks", "test")
LIMITS = "constraints.txt"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]

# pip's setting -> uv's environment variable and what separates several values in it
_TRANSLATED = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
}
# Settings that do not change which files are installed
_IRRELEVANT = {"disable-pip-version-check", "no-color", "no-input", "progress-bar", "quiet", "verbose"}
_IRRELEVANT |= {"cache-dir", "no-cache-dir", "no-compile", "retries"}
_IRRELEVANT |= {"break-system-packages", "require-virtualenv", "root-user-action"}

_JUPYTER = {
    # TensorFlow's C++ log, ten lines whatever TF_CPP_MIN_LOG_LEVEL says, would be copied into the cells and shown in
    # red. It stays in the terminal; what Python writes to stderr is shown as before.
    "etc/ipython/ipython_kernel_config.json": {"IPKernelApp": {"capture_fd_output": False}},
    "share/jupyter/lab/settings/overrides.json": {
        # Else a notebook that was saved and is opened again says "Error displaying widget" for each progress bar.
        "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
        # Else JupyterLab asks at its first start whether it may fetch news from the network.
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
    },
}


def main(extras: Sequence[str]) -> int:
    """Install, by uv where that respects pip's settings, else by pip."""
    set_up_jupyter(Path(sys.prefix))
    project = ["-c", LIMITS, "-e", f".[{','.join(extras or EXTRAS)}]"]
    variables = uv_environment(_output([*PIP, "config", "list"]))
    if variables is not None and _runs([*PIP, "install", "-q", "--no-deps", "uv>=0.13,<1"]):
        # Constraints on the command line would put those of the environment out of force.
        further = [part for path in variables.pop("UV_CONSTRAINT", "").split() for part in ("-c", path)]
        uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable]
        # Variables that the caller set for uv go before what pip's settings say.
        if _runs([*uv, *further, *project], variables | os.environ):
            return 0
        print("uv could not install the packages (see above); now pip tries, which takes a minute or two")
    return 0 if _runs([*PIP, "install", "-q", "--no-compile", *project]) else 1


def set_up_jupyter(prefix: Path) -> None:
    """Write the settings of JupyterLab and its kernels into an environment; a user's own settings overrule them."""
    for name, settings in _JUPYTER.items():
        path = prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def uv_environment(settings: str) -> dict[str, str] | None:
    """Translate what `pip config list` prints into environment variables for uv.

    Returns:
        The variables, or None when a setting is not known to be translated or irrelevant.
    """
    variables = {}
    for section in ("global.", "install.", ":env:."):  # the later one wins, as in pip
        for line in settings.splitlines():
            name, _, value = line.partition("=")
            if not name.startswith(section) or name.removeprefix(section) in _IRRELEVANT:
                continue
            if name.removeprefix(section) not in _TRANSLATED:
                return None
            variable, separator = _TRANSLATED[name.removeprefix(section)]
            variables[variable] = separator.join(ast.literal_eval(value).split())
    if "UV_INDEX" in variables:
        # pip takes the best version of all indexes; uv would stop at the first that knows the name.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return variables


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _runs(command: list[str], environment: dict[str, str] | None = None) -> bool:
    return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
