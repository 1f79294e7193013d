"""The page in a real browser."""

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.serve.conftest import RunningServer
from tests.small_model import photo

expect.set_options(timeout=30_000)  # machines that run tests may be busy
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def page(server: RunningServer) -> Iterator[Page]:
    """The page, opened in a browser that can reach nothing but the server."""
    if CHROMIUM is None:
        told = pytest.fail if os.environ.get("BIN_COUNTER_BROWSER") == "required" else pytest.skip
        told("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        strangers: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: strangers.append(request.url) if _is_foreign(request.url, server) else None)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{server.url}/ui")
        expect(page.locator("#model")).to_contain_text("version")
        yield page
        assert strangers == []
        # The browser itself reports a refused photo's 400 on the console; the page's own code must not complain.
        assert [text for text in complaints if "400" not in text] == []
        browser.close()


def _is_foreign(url: str, server: RunningServer) -> bool:
    return not url.startswith((server.url, "blob:", "data:"))


def photos(folder: Path, *counts: int) -> list[str]:
    """Photos of bins as files."""
    paths = [folder / f"bin-{count}.jpg" for count in counts]
    for path, count in zip(paths, counts, strict=True):
        path.write_bytes(photo(count))
    return [str(path) for path in paths]


def test_a_photo_shows_its_count_its_bars_and_the_verdict(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Quantity on record", exact=True).fill("4")
    page.get_by_label("Photos of bins").set_input_files(photos(tmp_path, 3))
    answer = page.get_by_role("listitem")
    expect(answer.get_by_role("heading")).to_have_text("3 items")
    expect(answer.get_by_role("row")).to_have_count(5)
    expect(answer.locator(".verdict")).to_contain_text("Recount: 3 is likelier, 4 is recorded")
    answer.get_by_role("spinbutton").fill("3")
    answer.get_by_role("spinbutton").press("Tab")
    expect(answer.locator(".verdict")).to_contain_text("Agrees with the record of 3 items")
    expect(answer.get_by_alt_text("Photo bin-3.jpg")).to_be_visible()
    page.screenshot(path=tmp_path / "page.png", full_page=True)


def test_several_photos_become_a_list_that_is_saved_as_csv(page: Page, tmp_path: Path) -> None:
    files = photos(tmp_path, 1, 5)
    (tmp_path / "=text.jpg").write_text("no photo")
    page.get_by_label("Photos of bins").set_input_files([*files, str(tmp_path / "=text.jpg")])
    expect(page.get_by_role("status")).to_have_text("2 of 3 photos counted, 6 items in all, 1 refused.")
    expect(page.get_by_role("listitem").nth(0).locator("img")).to_be_visible()
    expect(page.get_by_role("listitem").nth(2).locator("img")).to_be_hidden()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    with Path(download.value.path()).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["file"], line["count"]) for line in lines] == [
        ("bin-1.jpg", "1"), ("bin-5.jpg", "5"), ("'=text.jpg", ""),
    ]  # fmt: skip
    assert "no image" in lines[2]["error"]
    assert sum(float(lines[0][f"score_{count}"]) for count in range(1, 6)) == pytest.approx(1, abs=1e-5)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("listitem")).to_have_count(0)


def test_photos_can_be_dropped(page: Page) -> None:
    page.evaluate(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", {type: "image/jpeg"}));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        list(photo(2)),
    )
    expect(page.get_by_role("heading", level=2)).to_have_text("2 items")


def test_the_keyboard_reaches_everything_and_all_has_a_name(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Photos of bins").set_input_files(photos(tmp_path, 2))
    expect(page.get_by_role("heading", level=2)).to_have_text("2 items")
    page.locator("body").focus()
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.closest('label')?.className"))
    assert reached == ["photos", "quantity", "save", "clear", "own"]
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input, button, img")]
            .filter(e => !e.closest("template") && !(e.labels?.length || e.alt || e.textContent.trim()))
            .map(e => e.outerHTML)"""
    )
    assert unnamed == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.get_by_role("list", name="Answers").count() == 1


def test_it_fits_a_telephone(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    page.get_by_label("Photos of bins").set_input_files(photos(tmp_path, 2))
    expect(page.get_by_role("heading", level=2)).to_have_text("2 items")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
