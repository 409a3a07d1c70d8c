"""What pip's settings become when uv does the work, and what Jupyter is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

from install import set_up_jupyter, uv_environment


def test_without_settings_uv_gets_none():
    assert uv_environment("") == {}


def test_settings_are_handed_over_and_the_environment_goes_first():
    settings = r"""
:env:.index-url='https://mirror/simple'
global.index-url='https://other/simple'
global.extra-index-url='https://a/simple\nfile:///b/simple'
global.find-links='/wheels /more'
global.cert='/etc/ca.crt'
global.timeout='60'
global.constraint='/etc/limits.txt /etc/more.txt'
global.disable-pip-version-check='1'
list.format='columns'
""".strip()
    assert uv_environment(settings) == {
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://a/simple file:///b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_CONSTRAINT": "/etc/limits.txt /etc/more.txt",
        "SSL_CERT_FILE": "/etc/ca.crt",
        "UV_HTTP_TIMEOUT": "60",
    }


def test_a_setting_without_translation_leaves_the_work_to_pip():
    assert uv_environment("install.target='elsewhere'") is None


def test_kernels_keep_the_log_of_libraries_out_of_the_cells(tmp_path):
    set_up_jupyter(tmp_path)
    program = (
        f"import sys; sys.prefix = {str(tmp_path)!r}\n"
        "from ipykernel.kernelapp import IPKernelApp\n"
        "app = IPKernelApp()\n"
        "app.init_config_files(); app.load_config_file()\n"
        "print(app.config.IPKernelApp.get('capture_fd_output', True))"
    )
    environment = os.environ | {"IPYTHONDIR": str(tmp_path / "home")}
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert json.loads(printed.lower()) is False


def test_jupyterlab_knows_the_settings_that_are_overridden(tmp_path):
    set_up_jupyter(tmp_path)
    settings = json.loads((tmp_path / "share/jupyter/lab/settings/overrides.json").read_text())
    known = {f"{path.parent.parent.name}/{path.parent.name}:{path.stem}": path for path in _schemas()}
    for plugin, chosen in settings.items():
        assert chosen.keys() <= json.loads(known[plugin].read_text())["properties"].keys()


def _schemas():
    jupyter = Path(sys.prefix) / "share" / "jupyter"
    yield from (jupyter / "lab" / "schemas").glob("*/*/*.json")
    yield from (jupyter / "labextensions").glob("*/*/schemas/*/*/*.json")
