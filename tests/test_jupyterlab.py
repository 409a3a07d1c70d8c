"""JupyterLab itself, in a browser: a notebook opens, all of its cells run, and no output is an error."""

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.alone,
    pytest.mark.exhaustive,  # two and a half minutes; `make test-browser` runs it, too
    pytest.mark.skipif(importlib.util.find_spec("jupyterlab") is None, reason="JupyterLab is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


def without_outputs(notebook):
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    return notebook


@pytest.fixture
def lab(tmp_path):
    """Yield the address, without its token, and the token of a JupyterLab over copies of the notebooks."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for path in (tmp_path / "notebooks").rglob("*.ipynb"):
        path.write_text(json.dumps(without_outputs(json.loads(path.read_text("utf-8")))), "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    command += [f"--IdentityProvider.token={token}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(command, cwd=tmp_path / "notebooks", env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}", token
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.mark.parametrize("name", ["solutions/10_how_training_works.ipynb", "00_tour.ipynb"])
def test_all_cells_run_without_red_output(lab, name, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    at, token = lab
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        # Tall enough that JupyterLab draws all cells; it leaves out those that are out of sight.
        page = browser.new_page(viewport={"width": 1280, "height": 20_000})
        for _ in range(60):
            try:
                page.goto(f"{at}/lab/tree/{name}?token={token}&reset")
                break
            except playwright.Error:  # it does not listen yet
                page.wait_for_timeout(500)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000)
        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_text("Restart Kernel and Run All Cells…", exact=True).click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        cells = page.locator(".jp-Notebook .jp-CodeCell").count()
        page.wait_for_function(
            "n => { const it = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')]"
            ".map(e => e.textContent); return it.length >= n && it.includes(`[${n}]:`) && !it.includes('[*]:'); }",
            arg=cells,
            timeout=400_000,
        )
        page.screenshot(path=tmp_path / "all_cells.png")
        shown = page.locator(".jp-Notebook .jp-RenderedImage img").count()
        assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
        browser.close()
    assert name != "00_tour.ipynb" or shown >= 5
