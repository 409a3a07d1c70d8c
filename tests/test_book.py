"""The book builds without a warning, so without a dead link or an unknown citation, and looks right in a browser."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("myst_nb") is None, reason="the extra book is not installed"),
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "-d", folder / "cache"]
    there = {"GITHUB_REPOSITORY": "someone/masslib", "GITHUB_REF_NAME": "main"}  # as the workflow that publishes it
    built = subprocess.run(
        [*command, ".", folder / "html"], cwd=ROOT, env=os.environ | there, capture_output=True, text=True, timeout=400
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_every_chapter_and_guide_is_in_the_book(book):
    sources = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "docs").glob("*.md")]
    missing = [s for s in sources if not (book / s.relative_to(ROOT).with_suffix(".html")).is_file()]
    assert not missing
    page = (book / "notebooks/11_how_workers_talk.html").read_text(encoding="utf-8")
    assert "references.html#id" in page and "<math" in page and "references.bib#" not in page


def test_a_book_built_on_github_opens_its_chapters_in_binder(book):
    page = (book / "notebooks/00_tour.html").read_text(encoding="utf-8")
    assert "https://mybinder.org/v2/gh/someone/masslib/main?urlpath=lab/tree/notebooks/00_tour.ipynb" in page
    wanted = (ROOT / ".binder/requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "--editable .[train,serve,notebooks]" in wanted and "--constraint ../constraints.txt" in wanted


def test_a_book_built_on_github_opens_its_chapters_in_colab_and_says_what_to_install_there(book):
    page = (book / "notebooks/00_tour.html").read_text(encoding="utf-8")
    assert "https://colab.research.google.com/github/someone/masslib/blob/main/notebooks/00_tour.ipynb" in page
    front = (book / "docs/index.html").read_text(encoding="utf-8")
    assert "!git clone --quiet --depth 1 https://github.com/someone/masslib /content/masslib" in front
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"/content/masslib\[([\w,]+)\]", front)
    assert {"train", "serve"} == set(wanted.split(",")) <= set(extras) and "/content/masslib/constraints.txt" in front


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_and_the_console_is_silent(book, width, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=book))
    Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    said: list[str] = []
    try:
        with playwright.sync_playwright() as tools:
            browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": width, "height": 900})
            # The theme logs what it does; errors and warnings are what counts.
            page.on(
                "console",
                lambda told: told.type in ("error", "warning") and said.append(f"{page.url}: {told.text}"),
            )
            page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
            page.on("request", lambda asked: asked.url.startswith((at, "data:")) or said.append(f"asks {asked.url}"))
            page.goto(f"{at}/index.html")
            page.wait_for_url("**/docs/index.html")
            for name in ("docs/index", "notebooks/11_how_workers_talk", "docs/glossary", "docs/lecturers"):
                page.goto(f"{at}/{name}.html")
                assert page.locator("article h1").count() == 1
                assert page.evaluate("document.documentElement.scrollWidth") <= width, name
                page.screenshot(path=tmp_path / f"{name.replace('/', '-')}-{width}.png")
            page.goto(f"{at}/search.html?q=all-reduce")
            page.wait_for_selector("#search-results li a")
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    assert not said, "\n".join(said)
