import shutil

import pytest
from serving_packages import NAME, put

import masslib

pytest.importorskip("httptools", reason="the extra serve is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def service(packages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    put(packages[1], folder, 1)
    put(packages[2], folder, 2)
    with masslib.serve(folder, record=str(folder.parent / "answers.sqlite")) as server:
        yield server


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_example_is_answered_and_corrected(service, width, scheme, tmp_path):
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(service.url)
        page.wait_for_selector("#examples button")
        page.focus("#examples button:nth-child(2)")
        page.keyboard.press("Enter")
        page.wait_for_selector("#labels li")
        assert page.locator("#labels li").count() == 5
        bar, item = (page.locator(what).first.bounding_box() for what in ("#labels .bar", "#labels li"))
        assert bar["height"] == item["height"] and 0 < bar["width"] <= item["width"]
        assert "version 2" in page.inner_text("#said")
        page.select_option("#right", "3")
        page.click("#correct button")
        page.wait_for_selector("#thanks:text-is('Kept.')")
        page.select_option("#version", "1")
        photo = tmp_path / "photo.png"
        photo.write_bytes(b"no photo")
        page.set_input_files("#photo", photo)
        page.wait_for_selector("#said.bad")
        assert "no PNG" in page.inner_text("#said")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert "Model details" in page.locator("#card-text h4").all_inner_texts()
        assert page.locator("#card-text td code").count() >= 3  # a checksum per split
        assert not set(page.inner_text("#card-text").split()) & {"|", "##", "---"}
        assert "–" in page.locator("#drift-table td").all_inner_texts()
        assert page.screenshot(full_page=True)
        browser.close()
    # A browser says in its console that a request got status 400; nothing else is said.
    assert all("400" in text for text in said)
    assert service.status()["models"][NAME]["labels"]["stable"] == 2
