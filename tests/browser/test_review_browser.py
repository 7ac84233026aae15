"""The results page in a real browser, driven as a reader would use it.

Needs Chromium, its driver and Selenium; without them every test here is skipped with the
reason. Nothing leaves this machine: the page is a file.
"""

from __future__ import annotations

import json
import shutil
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from review_folder import EXPLORED, decode, make_page

webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars"),
)
PHONE, DESKTOP = (390, 844), (1280, 900)
PATIENCE = 20.0  # seconds


class Browser:
    """A page in Chromium with the few actions that the tests need."""

    def __init__(self, driver: Any, page: Path) -> None:
        self.driver = driver
        self.url = page.as_uri()

    def open(self, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Browser:
        """Load the page anew at a size and in the system's colour scheme."""
        width, height = size
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        self.driver.get("about:blank")
        self.driver.get(self.url)
        self.run("document.documentElement.style.scrollBehavior = 'auto'")
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        """Evaluate JavaScript; the value of `return`."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        """The first element of a selector, scrolled to the middle of the window."""
        (element, *_) = self.all(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    def all(self, selector: str) -> list[Any]:
        """All elements of a selector."""
        return self.driver.find_elements("css selector", selector)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something to be true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.05)
        pytest.fail(f"waited {PATIENCE:g} s for {what}")

    def charts(self, figure: str) -> None:
        """Scroll to a figure and wait until all its charts are drawn."""
        self.find(f"{figure} .plot")
        self.until(
            lambda: self.run(
                "return [...document.querySelectorAll(arguments[0])].every(e => e.dataset.drawn)",
                f"{figure} .plot",
            ),
            f"the charts of {figure}",
        )

    def texts(self, selector: str) -> list[str]:
        """Visible texts of a selector."""
        return [element.text for element in self.all(selector) if element.is_displayed()]

    def messages(self) -> list[str]:
        """What the console has said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        """Schemes and addresses asked for since the last call; data URIs without content."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        urls = {
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }
        return {url.split(",")[0] if url.startswith("data:") else url for url in urls}

    def screenshot(self) -> np.ndarray:
        """The window as (H, W, 3) uint8."""
        with Image.open(BytesIO(self.driver.get_screenshot_as_png())) as image:
            return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(tmp_path_factory.mktemp("page") / "quick")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, page_path: Path) -> Iterator[Browser]:
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver_path = shutil.which("chromedriver")
    if binary is None or driver_path is None:
        pytest.skip("Chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver_path)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver, page_path)
    finally:
        driver.quit()


@pytest.fixture
def page(browser: Browser) -> Browser:
    """The page, freshly loaded on a desktop in the light scheme."""
    return browser.open()


# Loading -----------------------------------------------------------------------------------


def test_no_console_message_and_no_request_beyond_the_file(page: Browser) -> None:
    page.messages()
    page.requests()
    page.open()
    for section in page.run("return [...document.querySelectorAll('section')].map(s => s.id)"):
        page.run("document.getElementById(arguments[0]).scrollIntoView()", section)
        time.sleep(0.1)
    for figure in ("#figure-1", "#figure-14", "#search"):
        page.charts(figure)
    page.until(
        lambda: page.run("return document.getElementById('explorer-app').dataset.ready"),
        "the explorer",
    )
    assert page.messages() == []
    requests = page.requests() - {page.url, "about:blank"}
    assert page.url not in requests
    assert all(url.startswith(("data:", "blob:")) for url in requests), requests


def test_policy_stops_a_request_that_a_script_would_make(page: Browser) -> None:
    page.run("new Image().src = 'http://127.0.0.1:9/picture.png'")
    blocked = page.until(page.messages, "the blocked request")
    assert "Content Security Policy" in blocked[0]


# Theme -------------------------------------------------------------------------------------


def background(page: Browser) -> str:
    return page.run("return getComputedStyle(document.body).backgroundColor")


def test_theme_follows_the_system_until_it_is_chosen(page: Browser) -> None:
    light = background(page)
    page.open(scheme="dark")
    dark = background(page)
    assert light != dark
    page.charts("#figure-1")
    tick = "return getComputedStyle(document.querySelector('#figure-1 .xtick text')).fill"
    dark_tick = page.run(tick)
    page.find("#theme").click()
    assert background(page) == light
    assert page.find("#theme").get_attribute("aria-pressed") == "false"
    assert page.run(tick) != dark_tick
    # The choice outlasts a reload.
    page.open(scheme="dark")
    assert background(page) == light
    page.run("localStorage.clear()")


# Tables ------------------------------------------------------------------------------------


def column(page: Browser, table: str, index: int) -> list[str]:
    script = (
        "return [...document.querySelectorAll(arguments[0])]"
        ".map(row => row.cells[arguments[1]].innerText)"
    )
    return page.run(script, f"{table} tbody tr", index)


def test_sorting_by_click_and_by_keyboard(page: Browser) -> None:
    header = page.find("#table-1 th[data-column='3']")
    button = header.find_element("css selector", "button")
    button.click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(page, "#table-1", 3) == ["−0.5", "+1.1", "–"]
    button.send_keys("\ue007")  # Enter
    assert header.get_attribute("aria-sort") == "descending"
    # What has no number stays last.
    assert column(page, "#table-1", 3) == ["+1.1", "−0.5", "–"]
    page.find("#table-1 th[data-column='0'] button").send_keys("\ue00d")  # Space
    assert header.get_attribute("aria-sort") == "none"
    assert [text.split("\n")[0] for text in column(page, "#table-1", 0)] == [
        "BVAE, β = 2",
        "VAE",
        "VQ-VAE",
    ]
    # Claims sort by number, not by letter.
    for _ in range(2):
        page.find("#claims th[data-column='0'] button").click()
    rows = page.run("return [...document.querySelectorAll('#claim-rows tr')].map(r => r.id)")
    assert rows == ["claim-C34", "claim-C10", "claim-C2", "claim-C1"]


# Claims ------------------------------------------------------------------------------------


def shown_claims(page: Browser) -> list[str]:
    return [row.get_attribute("id") for row in page.all("#claim-rows tr") if row.is_displayed()]


def test_claims_filter_by_verdict_and_words(page: Browser) -> None:
    assert len(shown_claims(page)) == 4
    page.find("button[data-verdict='fails']").click()
    assert shown_claims(page) == ["claim-C2", "claim-C34"]
    assert page.find("#claim-filter output").text == "2 of 4 claims"
    page.find("#claim-filter input").send_keys("EQUAL times")
    assert shown_claims(page) == ["claim-C34"]
    page.find("button[data-verdict='']").click()
    assert shown_claims(page) == ["claim-C34"]


def test_link_to_a_claim_that_is_filtered_away_shows_it(page: Browser) -> None:
    page.find("button[data-verdict='fails']").click()
    page.find("#figure-1 a[href='#claim-C1']").click()
    page.until(lambda: "claim-C1" in shown_claims(page), "the claim")
    top = page.run("return document.getElementById('claim-C1').getBoundingClientRect().top")
    assert 0 <= top < DESKTOP[1]


# Charts ------------------------------------------------------------------------------------


def visible_traces(page: Browser, plot: str) -> set[str]:
    script = (
        "return document.querySelector(arguments[0]).data"
        ".filter(trace => trace.visible !== false).map(trace => trace.name)"
    )
    return set(page.run(script, plot))


def test_switches_hide_train_test_baseline_and_report(page: Browser) -> None:
    page.charts("#figure-1")
    plot = "#figure-1 .plot"
    assert len(visible_traces(page, plot)) == 8
    page.find("#figure-1 button[data-tag='ours, smoothed']").click()
    everything = visible_traces(page, plot)
    assert len(everything) == 6
    page.find("#figure-1 button[data-tag='test']").click()
    assert visible_traces(page, plot) == {n for n in everything if not n.endswith("test")}
    page.find("#figure-1 button[data-tag='wake-sleep']").click()
    assert visible_traces(page, plot) == {"AEVB, train", "The report, AEVB, train"}
    page.find("#figure-1 button[data-tag='The report']").click()
    assert visible_traces(page, plot) == {"AEVB, train"}
    drawn = page.run("return document.querySelectorAll('#figure-1 .scatterlayer .trace').length")
    assert drawn == 1
    page.find("#figure-1 button[data-tag='test']").click()
    assert visible_traces(page, plot) == {"AEVB, train", "AEVB, test"}


def test_chart_zooms_and_tells_values_on_hover(page: Browser) -> None:
    page.charts("#figure-6")
    area = page.find("#figure-6 .plot .nsewdrag")
    axis = "return document.querySelector('#figure-6 .plot').layout.xaxis.range"
    before = page.run(axis)
    actions = webdriver.ActionChains(page.driver, duration=50)
    actions.move_to_element_with_offset(area, -60, -40).click_and_hold()
    actions.move_by_offset(100, 60).release().perform()
    page.until(lambda: page.run(axis) != before, "the zoom")
    low, high = page.run(axis)
    assert before[0] < low < high < before[1]
    # The modebar's last button goes back.
    page.run(
        "document.querySelector('#figure-6 .plot').querySelector('[data-val=\"reset\"]').click()"
    )
    page.until(lambda: page.run(axis) == before, "the way back")
    point = page.run(
        "const p = document.querySelector('#figure-6 .plot .point').getBoundingClientRect();"
        "const a = arguments[0].getBoundingClientRect();"
        "return [p.x + p.width / 2 - a.x - a.width / 2, p.y + p.height / 2 - a.y - a.height / 2]",
        area,
    )
    webdriver.ActionChains(page.driver).move_to_element_with_offset(
        area, *(round(value) for value in point)
    ).perform()
    label = page.until(lambda: page.texts("#figure-6 .hovertext"), "the hover box")[0]
    assert "The report" in label
    assert "β = " in label


def test_picture_and_chart_take_turns_and_pictures_open_in_full(page: Browser) -> None:
    plate, charts = (page.all(f"#figure-3 {kind}")[0] for kind in (".plate", ".charts"))
    page.find("#figure-3 header")
    assert charts.is_displayed()
    assert not plate.is_displayed()
    page.find("#figure-3 button[data-view='picture']").click()
    assert plate.is_displayed()
    assert not charts.is_displayed()
    plate.click()
    dialog = page.all("#zoom")[0]
    assert dialog.is_displayed()
    shown = page.run("return document.querySelector('#zoom img').naturalWidth")
    assert shown == 60
    webdriver.ActionChains(page.driver).send_keys("\ue00c").perform()  # Escape
    assert not dialog.is_displayed()


def test_search_is_drawn_beside_the_reports(page: Browser) -> None:
    page.charts("#search")
    bars = page.run(
        "return [...document.querySelectorAll('#search .plot')]"
        ".map(p => p.querySelectorAll('.barlayer .point').length)"
    )
    # Beside each chart of bars stands a line of recon.
    assert bars == [0, 18, 0, 18]


# Explorer ----------------------------------------------------------------------------------


def explorer(page: Browser, model: str) -> None:
    """Choose a model of the explorer and wait until it is unpacked."""
    page.find("#explorer-app")
    choice = page.all(f"input[name='model'][value='{model}'] + span")[0]
    page.run("arguments[0].scrollIntoView({block: 'center'})", choice)
    choice.click()
    ready = "return document.getElementById('explorer-app').dataset.ready"
    page.until(lambda: page.run(ready) == model, f"the weights of {model}")


def canvas(page: Browser, name: str) -> np.ndarray:
    """Grey values of a canvas, (H, W) uint8; red, green and blue must agree."""
    uri = page.run("return document.getElementById(arguments[0]).toDataURL('image/png')", name)
    with Image.open(BytesIO(b64decode(uri.split(",")[1]))) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def state(page: Browser) -> tuple[str, list[float], int]:
    """Model, code and label behind the decoded picture."""
    data = page.run("return {...document.getElementById('picture').dataset}")
    return data["model"], json.loads(data["z"]), int(data["label"])


def decoded(page_path: Path, model: str, z: Sequence[float], label: int = 0) -> np.ndarray:
    """What the stored weights make of a code, (28, 28)."""
    weights = load_file(page_path.parent / "checkpoints" / f"{model}-s0.safetensors")
    return decode(weights, [*z, *np.eye(10)[label][: EXPLORED[model]]]).reshape(28, 28)


def assert_decoded(page: Browser, page_path: Path) -> None:
    """The picture on the canvas is Python's, to one grey level."""
    model, z, label = state(page)
    expected = decoded(page_path, model, z, label)
    shown = canvas(page, "picture") / 255
    assert np.abs(shown - expected).max() <= 1 / 255
    assert np.ptp(shown) > 0.3


def test_points_decode_as_in_python(page: Browser, page_path: Path) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for index, model in enumerate(["vae_d2"] * 2 + ["bvae_beta2_d2"] + ["cvae_onehot_d2"] * 2):
        explorer(page, model)
        assert page.all("#label")[0].is_displayed() == bool(EXPLORED[model])
        if EXPLORED[model]:
            page.find(f"input[name='label'][value='{index}'] + span").click()
        plane = page.find("#plane")
        offset = rng.integers(-180, 180, 2)
        webdriver.ActionChains(page.driver, duration=0).move_to_element_with_offset(
            plane, *map(int, offset)
        ).click().perform()
        assert_decoded(page, page_path)
        shown, z, label = state(page)
        assert shown == model
        assert label == (index if EXPLORED[model] else 0)
        seen.add((model, *z))
    assert len(seen) == 5


def test_dragging_follows_the_pointer(page: Browser, page_path: Path) -> None:
    explorer(page, "vae_d2")
    plane = page.find("#plane")
    reach, width = float(page.find("#z1").get_attribute("max")), plane.size["width"]
    actions = webdriver.ActionChains(page.driver, duration=50)
    actions.move_to_element(plane).click_and_hold().move_by_offset(90, -60).perform()
    per_pixel = 2 * reach / width
    assert state(page)[1] == pytest.approx([90 * per_pixel, 60 * per_pixel], abs=2 * per_pixel)
    assert_decoded(page, page_path)
    webdriver.ActionChains(page.driver, duration=50).release().perform()
    held = state(page)[1]
    webdriver.ActionChains(page.driver, duration=50).move_by_offset(-50, 0).perform()
    assert state(page)[1] == held


def test_explorer_by_keyboard(page: Browser, page_path: Path) -> None:
    explorer(page, "vae_d2")
    plane = page.find("#plane")
    plane.send_keys("\ue014\ue014\ue015")  # right, right, down
    assert state(page)[1] == pytest.approx([0.2, -0.1])
    plane.send_keys("\ue008\ue013")  # Shift and up
    assert state(page)[1] == pytest.approx([0.2, 0.4])
    assert_decoded(page, page_path)
    plane.send_keys("\ue000\ue011")  # release Shift; Home
    assert state(page)[1] == [0, 0]
    slider = page.find("#z1")
    slider.send_keys("\ue014")
    assert state(page)[1] == pytest.approx([0.01, 0])
    assert page.find("#nearest").text.startswith("Nearest test code: a ")


def test_walk_between_two_test_images(page: Browser, page_path: Path) -> None:
    explorer(page, "bvae_beta2_d2")
    data = page.run("return vaelab.data('explorer-data').models[1].examples")
    page.find("#from label:nth-child(5)").click()
    page.find("#to label:nth-child(9)").click()
    start, end = np.array(data[4]), np.array(data[8])
    assert state(page)[1] == pytest.approx(end.tolist())
    slider = page.find("#walk")
    slider.send_keys("\ue011")  # Home
    assert state(page)[1] == pytest.approx(start.tolist())
    page.run("arguments[0].value = 0.25; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert state(page)[1] == pytest.approx((0.75 * start + 0.25 * end).tolist())
    assert_decoded(page, page_path)
    strip = canvas(page, "strip")
    line = start + np.linspace(0, 1, 9)[:, None] * (end - start)
    expected = np.hstack([decoded(page_path, "bvae_beta2_d2", z) for z in line])
    assert np.abs(expected - strip / 255).max() <= 1 / 255


def test_digits_can_be_hidden_on_the_plane(page: Browser) -> None:
    explorer(page, "vae_d2")

    def inked() -> int:
        script = (
            "const c = document.getElementById('plane');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "let n = 0; for (let i = 0; i < d.length; i += 4)"
            " n += Math.max(d[i], d[i+1], d[i+2]) - Math.min(d[i], d[i+1], d[i+2]) > 40;"
            "return n"
        )
        return page.run(script)

    everything = inked()
    for digit in range(9):
        page.find(f"button[data-digit='{digit}']").click()
    assert 0 < inked() < 0.3 * everything


# Looks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")], ids=["phone", "desktop"]
)
def test_page_fits_the_screen_in_both_schemes(
    browser: Browser, size: tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    page = browser.open(size, scheme)
    for section in ("summary", "figure-1", "tables", "explorer"):
        page.run("document.getElementById(arguments[0]).scrollIntoView()", section)
        page.until(
            lambda: page.run(
                "return [...document.querySelectorAll('.plot')].every(e => {"
                " const r = e.getBoundingClientRect();"
                " return e.dataset.drawn || r.bottom < 0 || r.top > innerHeight })"
            ),
            "the visible charts",
        )
        page.run("document.getElementById(arguments[0]).scrollIntoView()", section)
        shot = page.screenshot()
        Image.fromarray(shot).save(tmp_path / f"{section}.png")
        assert shot.shape[:2] == size[::-1]
        brightness = np.median(shot)
        assert brightness > 200 if scheme == "light" else brightness < 60
        assert shot.std() > 10
    assert page.run("return document.documentElement.scrollWidth") == size[0]


def test_first_stop_of_the_keyboard_is_the_skip_link(page: Browser) -> None:
    webdriver.ActionChains(page.driver).send_keys("\ue004").perform()  # Tab
    assert page.run("return document.activeElement.className") == "skip"
    top = page.run("return document.activeElement.getBoundingClientRect().top")
    assert top >= 0
    webdriver.ActionChains(page.driver).send_keys("\ue007").perform()
    assert page.run("return document.activeElement.id") == "main"
