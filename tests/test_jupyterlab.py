"""JupyterLab itself, in a browser: notebooks run without red output, bars move, a training is stopped and goes on."""

import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
IDLE = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
# Errors and whatever is written to stderr
RED = ", ".join(f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in ("error", "stderr"))
pytestmark = [
    pytest.mark.alone,
    pytest.mark.exhaustive,  # three minutes; `make test-browser` runs it, too
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


@pytest.fixture
def opened(lab):
    """Yield a function that opens a notebook and returns its page when the kernel is idle."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    at, token = lab

    def open_notebook(name):
        # Tall enough that JupyterLab draws all cells; it leaves out those that are out of sight.
        page = browser.new_page(viewport={"width": 1280, "height": 20_000})
        for _ in range(60):
            try:
                page.goto(f"{at}/lab/tree/{name}?token={token}&reset")
                break
            except playwright.Error:  # it does not listen yet
                page.wait_for_timeout(500)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        page.wait_for_selector(IDLE, timeout=60_000)
        return page

    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield open_notebook
        browser.close()


def in_menu(page, menu, entry):
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_text(entry, exact=True).click()


def begun(page, number=0):
    """Tell, after a second, whether a cell is running or has run."""
    page.wait_for_timeout(1000)
    prompt = page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt").nth(number).inner_text()
    return re.search(r"[\d*]", prompt) is not None


def run_all(page):
    """Restart and run all, as often as it takes: JupyterLab drops commands while it is still setting the page up."""
    for _ in range(10):
        in_menu(page, "Kernel", "Restart Kernel and Run All Cells…")
        confirm = page.get_by_role("button", name="Confirm Kernel Restart")
        page.wait_for_timeout(3000)
        if confirm.count():
            confirm.click()
            page.wait_for_timeout(2000)
            if begun(page):
                return
    raise AssertionError("the cells do not begin to run")


@pytest.mark.parametrize("name", ["solutions/10_how_training_works.ipynb", "00_tour.ipynb"])
def test_all_cells_run_without_red_output(opened, name, tmp_path):
    page = opened(name)
    run_all(page)
    cells = page.locator(".jp-Notebook .jp-CodeCell").count()
    page.wait_for_function(
        "n => { const it = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')]"
        ".map(e => e.textContent); return it.length >= n && it.includes(`[${n}]:`) && !it.includes('[*]:'); }",
        arg=cells,
        timeout=400_000,
    )
    page.screenshot(path=tmp_path / "all_cells.png")
    shown = page.locator(".jp-Notebook .jp-RenderedImage img").count()
    assert page.locator(RED).all_inner_texts() == []
    assert name != "00_tour.ipynb" or shown >= 5


INTERRUPTED = [
    """import masslib
splits = masslib.data.load("digits")
model = masslib.models.mlp(splits.input_shape, splits.num_classes)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])""",
    "masslib.fit(model, splits.train, epochs=100_000, batch_size=32)",
    """before = int(model.optimizer.iterations)
_ = masslib.fit(model, splits.train, epochs=1, batch_size=32, verbose=0)
print("went on from step", before, "to", int(model.optimizer.iterations))""",
    """recipes = {f"{share} zeros": masslib.Prune(share, max_steps=60) for share in (0.3, 0.4, 0.5, 0.6)}
report = masslib.compare(model, recipes, splits)
report""",
]


def test_a_training_shows_its_progress_is_interrupted_and_goes_on(opened, lab, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in INTERRUPTED])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "notebooks" / "stopped.ipynb")
    page = opened("stopped.ipynb")

    def run(number):
        for _ in range(10):
            page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(number).click()
            page.keyboard.press("Shift+Enter")
            if begun(page, number):
                return
        raise AssertionError(f"cell {number} does not run; the cells show {output(number)}")

    def output(number):
        return page.locator(".jp-Notebook .jp-CodeCell").nth(number).locator(".jp-OutputArea-output").all_inner_texts()

    def epoch():
        found = re.findall(r"Epoch (\d+)/", "".join(output(1)))
        return int(found[-1]) if found else 0

    def wait(condition, seconds=120):
        for _ in range(4 * seconds):
            if condition():
                return
            page.wait_for_timeout(250)
        raise AssertionError(f"not within {seconds} s; the cells show {[output(n) for n in range(len(INTERRUPTED))]}")

    run(0)
    run(1)
    wait(epoch)
    first = epoch()
    wait(lambda: epoch() > first)  # the bar moves while it trains
    in_menu(page, "Kernel", "Interrupt Kernel")
    wait(lambda: "KeyboardInterrupt" in "".join(output(1)))
    (stopped,) = page.locator(RED).all_inner_texts()
    assert "KeyboardInterrupt" in stopped
    run(2)
    wait(lambda: output(2))
    before, after = map(int, re.findall(r"\d+", output(2)[0]))
    assert after > before > 0
    # How long each bar of `compare` was, whenever it was looked at
    page.evaluate(
        "() => { window.widths = new Set(); setInterval(() => document.querySelectorAll('.progress-bar')"
        ".forEach(bar => window.widths.add(bar.style.width)), 50); }"
    )
    run(3)
    wait(lambda: page.locator(".jp-Notebook .jp-CodeCell").nth(3).locator("table").count())
    page.screenshot(path=tmp_path / "stopped.png", clip={"x": 0, "y": 0, "width": 1280, "height": 1800})
    assert page.evaluate("window.widths.size") >= 3
    assert page.locator(RED).all_inner_texts() == [stopped]
