"""The report of real runs in a real browser: opened from disk, sorted, its pictures there, nothing fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Place, draw

HOSTILE = "<img src=x onerror=alert(1)>"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# as root in a container Chromium has no sandbox; the others keep it from looking for its maker's servers
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium: the one of the machine, or the one that playwright installed."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = next(filter(None, map(shutil.which, _BROWSERS)), str(own) if own.is_file() else None)
        if path is None:
            pytest.skip(f"no browser: none of {', '.join(_BROWSERS)} is on the PATH")
        opened = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def written(place: Place, comparison: tuple[str, ...], pictures: Path) -> Path:
    """The report of two methods over a memory, where one class has a hostile name."""
    first = next(path.name for path in sorted((pictures / "test").iterdir()))
    for part in ("test", "train"):
        (pictures / part / first).rename(pictures / part / HOSTILE)
    place.trireme(*comparison)
    said = place.trireme("report", "out", "--samples", "6").stderr
    assert "small pictures are held in this file" in said
    assert "missing" not in said
    return place.folder / "out" / "report.html"


@pytest.mark.slow
def test_the_report_in_a_browser(written: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    told: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(written.as_uri())

    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) > 12, "six test pictures, and what was retrieved for each"
    assert all(width > 0 for width in widths)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "tables scroll in themselves, not the page"

    names = "[...document.querySelectorAll('table tbody th')].map(cell => cell.textContent)"
    before = page.evaluate(names)
    score = page.locator("thead th.number").first
    score.locator("button").click()
    assert score.get_attribute("aria-sort") == "descending"
    assert page.evaluate(names) == before, "the best stands first already"
    score.locator("button").focus()
    page.keyboard.press("Enter")
    assert score.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(names) == before[::-1]
    assert page.locator("[aria-sort]").count() == 1

    assert HOSTILE in page.locator("main").inner_text()
    assert page.locator("svg[role=img]").count() >= 2
    assert told == []
    assert [url for url in fetched if not url.startswith("data:")] == [written.as_uri()]
    page.close()


@pytest.mark.slow
def test_pictures_that_are_gone_are_told_of(written: Path, place: Place, pictures: Path) -> None:
    for path in (pictures / "train").rglob("*.png"):
        path.unlink()
    said = place.trireme("report", "out", "--save", "again.html").stderr
    assert "are missing (picture not found)" in said
    page = (place.folder / "again.html").read_text()
    assert "picture not found" in page
    assert page.count("data:image/webp") == 6, "the test pictures are still there"


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    """The modules that it imports, on records of its own; seconds would not show it on a fast machine."""
    import subprocess
    import sys

    from tests.results.synthetic import store

    store(tmp_path, [1, 0] * 4, [0, 0, 1, 1, 2, 2, 3, 3], benchmark__name="world/all")
    script = (
        f"import sys; from trireme.cli import main; code = main(['report', {str(tmp_path)!r}]); "
        "print('HEAVY', *(m for m in ('torch', 'faiss', 'transformers') if m in sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY"


def test_boxes_are_drawn(tmp_path: Path) -> None:
    """A region of a white picture: its outline is in the small copy, and what it holds is cut out."""
    from PIL import Image

    from trireme.commands.thumbnails import _cut, _outlined
    from trireme.types import ImageRef, Region

    picture = Image.new("RGB", (200, 100), "white")
    picture.paste((0, 0, 255), (50, 20, 90, 60))
    picture.save(tmp_path / "whole.png")
    ref = ImageRef(str(tmp_path / "whole.png"), region=Region((50.0, 20.0, 40.0, 40.0)))
    outlined = _outlined(ref, 100)
    assert outlined.size == (100, 50)
    red, green, blue = outlined.getpixel((24, 20))  # left of the box, which starts at 25
    assert red > green > blue
    assert _cut(ref).getcolors() == [(1600, (0, 0, 255))]


def test_the_pictures_of_a_page_have_a_limit(tmp_path: Path) -> None:
    from trireme.commands.opened import Opened
    from trireme.commands.thumbnails import Thumbnails
    from trireme.types import ImageRef

    draw(tmp_path / "pictures", 1, seed=0)
    refs = [ImageRef(str(path)) for path in sorted((tmp_path / "pictures").rglob("*.png"))]
    made = Thumbnails(Opened(), most=6000)
    found = [made._picture(ref, 96, "", whole=True) for ref in refs]
    held = [picture for picture in found if picture.uri]
    assert 0 < len(held) < len(refs)
    assert sum(len(picture.uri) for picture in held) <= 6000
    assert f"{len(refs) - len(held)} are missing (left out: the page is full)" in made.told()
