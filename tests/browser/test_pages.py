"""The pages in headless Chromium, with every address but this server's refused (make browser)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import CHROMIUM, FLAGS, WAIT_MS

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TASKS = (
    *("classify", "regress", "reconstruct", "generate", "denoise", "translate"),
    *("transcribe", "label-frames", "caption"),
)


class Watched:
    """A page and everything that went wrong on it."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.wrong: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.wrong.append(f"exception: {e}"))
        page.on("requestfailed", lambda r: self.wrong.append(f"failed: {r.url} {r.failure}"))
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("response", lambda r: self.wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " e => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI))"
        )
        self.address = address

    @property
    def outside(self) -> list[str]:
        own = (self.address + "/", "data:", f"blob:{self.address}/")
        return [url for url in self.requests if not url.startswith(own)]

    def assert_clean(self) -> None:
        assert self.outside == []
        assert self.wrong == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (make browser installs it where it can)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make browser installs it)")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False)
        yield started
        started.close()


@pytest.fixture
def watched(browser: Any, address: str) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1280, "height": 1600})
    context.set_default_timeout(WAIT_MS)
    yield Watched(context.new_page(), address)
    context.close()


def test_an_outside_address_cannot_be_reached(watched: Watched) -> None:
    # Else the other tests would prove nothing.
    watched.page.goto(watched.address + "/docs")
    reached = watched.page.evaluate(
        "() => new Promise(done => { const image = new Image(); image.onload = () => done(true);"
        " image.onerror = () => done(false); image.src = 'https://example.com/favicon.ico'; })"
    )
    assert reached is False
    assert watched.outside == ["https://example.com/favicon.ico"] or any("policy" in line for line in watched.wrong)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_landing_page_shows_pictures_and_a_line_of_each_model_that_opens(
    watched: Watched, tmp_path: Path, width: int
) -> None:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(watched.address + "/")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=tmp_path / "landing.png", full_page=True)
    assert page.locator(".shown img").first.bounding_box()["y"] < 800
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") == width, "it scrolls to the side"
    loaded = page.request.get(watched.address + "/v1/models").json()["models"]
    lines = page.locator("details.model")
    assert lines.count() == len(loaded)
    command = lines.first.locator("pre")
    assert not command.is_visible()
    lines.first.locator("summary").click()
    assert command.is_visible()
    watched.assert_clean()


def test_swagger_ui_shows_the_api_and_asks_nobody_else(watched: Watched, tmp_path: Path) -> None:
    watched.page.goto(watched.address + "/docs")
    watched.page.wait_for_selector("[data-path='/v1/classify']")
    watched.page.wait_for_load_state("networkidle")
    watched.page.screenshot(path=tmp_path / "docs.png", full_page=True)
    watched.assert_clean()


def test_redoc_shows_the_api_and_asks_nobody_else(watched: Watched, tmp_path: Path) -> None:
    watched.page.goto(watched.address + "/redoc")
    watched.page.wait_for_selector("h1 >> text=Lectern")
    watched.page.wait_for_selector(":text('/v1/classify') >> visible=true")
    watched.page.wait_for_load_state("networkidle")
    watched.page.screenshot(path=tmp_path / "redoc.png", full_page=True)
    watched.assert_clean()


# The least contrast (WCAG 2.2, 1.4.3) of texts that are seen, each against the nearest background that is painted.
CONTRAST = """() => {
    const channels = color => (color.match(/[\\d.]+/g) || []).map(Number);
    const light = rgb => rgb.slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = node => {
        for (; node; node = node.parentElement) {
            const found = channels(getComputedStyle(node).backgroundColor);
            if (found.length === 3 || found[3] > 0.5) return found;
        }
        return matchMedia('(prefers-color-scheme: dark)').matches
            && getComputedStyle(document.documentElement).colorScheme.includes('dark') ? [0, 0, 0] : [255, 255, 255];
    };
    const ratios = [...document.querySelectorAll('p, li, h1, h2, label, summary')].filter(e => e.checkVisibility())
        .map(e => [light(channels(getComputedStyle(e).color)), light(behind(e))])
        .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    return [ratios.length, Math.min(...ratios)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("page", "text"), [("/", "Lectern"), ("/docs", "/v1/classify"), ("/redoc", "Ask by task")])
def test_the_pages_can_be_read_in_both_schemes(watched: Watched, page: str, text: str, scheme: str) -> None:
    watched.page.emulate_media(color_scheme=scheme)
    watched.page.goto(watched.address + page)
    watched.page.wait_for_selector(f":text('{text}') >> visible=true")
    count, least = watched.page.evaluate(CONTRAST)
    assert count > 10
    assert least > 3  # the least for large texts, which the headings of Redoc are
    watched.assert_clean()


@pytest.mark.parametrize("path", [f"/v1/{task}" for task in TASKS])
def test_the_example_in_swagger_ui_answers_200_as_it_stands(watched: Watched, tmp_path: Path, path: str) -> None:
    page = watched.page
    page.goto(watched.address + "/docs")
    operation = page.locator(".opblock-post", has=page.locator(f"[data-path='{path}']"))
    operation.locator(".opblock-summary-control").click()
    if (try_out := operation.locator("button.try-out__btn:has-text('Try it out')")).count():
        try_out.click()
    operation.locator(".opblock-section-request-body select.content-type").select_option("application/json")
    with page.expect_response(lambda r: r.url.startswith(watched.address + path)) as answered:
        operation.locator("button.execute").click()
    assert answered.value.status == 200
    answer = answered.value.json()
    assert {"model", "version", "device"} <= answer.keys()
    operation.locator(".live-responses-table .response-col_status >> text=200").first.wait_for()
    page.screenshot(path=tmp_path / "try-it-out.png", full_page=True)
    watched.assert_clean()


@pytest.mark.parametrize(
    ("path", "field", "file"),
    [
        *((f"/v1/{task}", "image", "seven.jpg") for task in ("classify", "reconstruct", "denoise", "translate")),
        ("/v1/classify", "sound", "stop.opus"),
        ("/v1/transcribe", "sound", "sentence.opus"),
        ("/v1/audio/transcriptions", "file", "sentence.opus"),
        ("/v1/label-frames", "video", "lips.avif"),
        ("/v1/label-frames", "image", "seven.jpg"),
        ("/v1/caption", "image", "scene.png"),
    ],
)
def test_a_form_in_swagger_ui_answers_200_with_a_chosen_file(
    watched: Watched, path: str, field: str, file: str
) -> None:
    page = watched.page
    page.goto(watched.address + "/docs")
    operation = page.locator(".opblock-post", has=page.locator(f"[data-path='{path}']"))
    operation.locator(".opblock-summary-control").click()
    if (kinds := operation.locator(".opblock-section-request-body select.content-type")).count():
        kinds.select_option("multipart/form-data")
    row = operation.locator(f".opblock-section-request-body tr[data-property-name='{field}']")
    row.wait_for()
    if not row.locator("input[type=file]").count():  # of several files
        row.locator("button").first.click()
    row.locator("input[type=file]").first.set_input_files(EXAMPLES / file)
    with page.expect_response(lambda r: r.url.startswith(watched.address + path)) as answered:
        operation.locator("button.execute").click()
    assert answered.value.status == 200, answered.value.text()
    assert watched.outside == []


def test_model_is_an_enumeration_of_what_is_loaded(watched: Watched) -> None:
    page = watched.page
    page.goto(watched.address + "/docs")
    operation = page.locator(".opblock-post", has=page.locator("[data-path='/v1/classify']"))
    operation.locator(".opblock-summary-control").click()
    choices = operation.locator("tr[data-param-name='model'] select option").all_inner_texts()
    loaded = page.request.get(watched.address + "/v1/models").json()
    names = {model["name"] for model in loaded["models"] if model["task"] == "classify"}
    assert names
    assert names <= set(choices) <= names | {"--", ""}
