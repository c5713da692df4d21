"""The page as a person meets it, in a real Chromium: quiet, self-contained, usable by mouse, keyboard and telephone."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from drawn import draw_photos
from finished_runs import EVIL_CLASS, finished_run, tiny_network, tiny_weights  # noqa: F401

from cnncodes.evaluation import Prediction
from cnncodes.images import read_catalog
from cnncodes.page import explore, write_gallery, write_report

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
if importlib.util.find_spec("playwright") is None:
    pytest.skip("playwright is not installed: pip install 'cnncodes[test]'", allow_module_level=True)
if CHROMIUM is None:
    pytest.skip("no Chromium is installed: apt install chromium", allow_module_level=True)

PATIENCE = 600_000  # ms: on a busy machine everything takes as long as it takes
MARGIN = 34  # pixels around the map's images, as in map.js


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    finished_run(folder)
    return Path(write_report(folder / "run").path)


@pytest.fixture(scope="module")
def browser():  # type: ignore[no-untyped-def]
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield started
        started.close()


@pytest.fixture
def opened(browser, page_file):  # type: ignore[no-untyped-def]
    """``opened(width, ...)`` gives the page, and a list of everything that it should not do."""
    contexts = []

    def open_it(width: int = 1440, **options):  # type: ignore[no-untyped-def]
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("data:", page_file.as_uri())) or wrong.append(request.url)
            ),
        )
        page.goto(page_file.as_uri())
        return page, wrong

    yield open_it
    for context in contexts:
        context.close()


def images_of(page) -> list:  # type: ignore[no-untyped-def, type-arg]
    return json.loads(page.locator("#map-data").text_content())["images"]


def place_of(page, entry) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Where the whole map shows an image, in pixels of its canvas."""
    box = page.locator("#map-canvas").bounding_box()
    return tuple(
        MARGIN + entry[axis] / 10_000 * (box[side] - 2 * MARGIN)
        for axis, side in ((0, "width"), (1, "height"))
    )


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_quiet(opened, width, scheme) -> None:
    page, wrong = opened(width, color_scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """width => [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg, .hidden, [hidden]')
           && e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 80))""",
        width,
    )
    assert outside == []
    broken = page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length")
    assert broken == 0 and page.evaluate("document.images.length") > 10
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (luminance(ink) > luminance(paper)) == (scheme == "dark")
    assert wrong == []


def luminance(colour: str) -> float:
    return sum(map(float, colour[colour.index("(") + 1 : -1].split(",")[:3]))


def test_a_class_named_like_a_script_stays_text(opened) -> None:
    page, wrong = opened()
    assert page.get_by_text(EVIL_CLASS, exact=True).first.is_visible()
    assert page.locator("main script:not([type='application/json'])").count() == 0
    assert wrong == []


def test_hover_names_an_image_and_a_click_shows_its_neighbours(opened) -> None:
    page, wrong = opened()
    canvas, tip = page.locator("#map-canvas"), page.locator("#map-tip")
    canvas.scroll_into_view_if_needed()
    entry = images_of(page)[0]
    x, y = place_of(page, entry)
    assert not tip.is_visible()
    canvas.hover(position={"x": x, "y": y})
    assert tip.is_visible() and entry[4] in tip.inner_text()
    canvas.click(position={"x": x, "y": y})
    shown = page.locator("#map-chosen button")
    assert shown.count() == 1 + len(entry[5])
    names = [images_of(page)[place][4] for place in entry[5]]
    for place, name in enumerate([entry[4], *names]):
        assert name in shown.nth(place).inner_text()
    shown.nth(1).click()
    assert names[0] in page.locator("#map-chosen button.first").inner_text(), "a neighbour can be followed"
    assert wrong == []


def drawn(page) -> str:  # type: ignore[no-untyped-def]
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate("document.getElementById('map-canvas').toDataURL()")


def test_the_map_zooms_moves_and_filters(opened) -> None:
    page, wrong = opened()
    canvas = page.locator("#map-canvas")
    whole = drawn(page)
    page.locator("#map-in").click()
    zoomed = drawn(page)
    assert zoomed != whole
    canvas.focus()
    canvas.press("ArrowRight")
    moved = drawn(page)
    assert moved != zoomed
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.wheel(0, -300)
    # the wheel zooms once the map has the focus; its event is not waited for
    page.wait_for_function(
        "before => document.getElementById('map-canvas').toDataURL() !== before", arg=moved
    )
    page.locator("#map-all").click()
    page.mouse.move(0, 0)
    page.locator("#map-filter").select_option("0")
    assert drawn(page) != whole
    page.locator("#map-filter").select_option("all")
    canvas.press("Enter")
    assert page.locator("#map-chosen button").count() > 1, "the keyboard chooses, too"
    assert wrong == []


def test_everything_but_the_map_works_without_javascript(opened) -> None:
    page, wrong = opened(390, java_script_enabled=False)
    for title in ("What was done", "The images", "The results", "Use and repeat"):
        assert page.get_by_role("heading", name=title).is_visible()
    assert page.get_by_text("The map needs JavaScript").is_visible()
    assert not page.locator("#map-box").is_visible()
    page.locator("summary").first.click()
    assert page.locator("details").first.get_attribute("open") is not None
    assert wrong == []


def test_a_class_chosen_in_the_gallery_is_saved_as_a_table(browser, tmp_path) -> None:  # type: ignore[no-untyped-def]
    photos = draw_photos(tmp_path / "photos", ("<b>ant", "bee"), each=2)
    (photos / "bee" / "broken.jpg").write_bytes(b"no image")
    (photos / "<b>ant" / "0.jpg").rename(photos / "<b>ant" / "0 1.00\u202fPM\u00a0.jpg")
    (photos / "bee").rename(photos / "big  bee")
    catalog = read_catalog(photos)
    classes = catalog.classes
    answers = [
        Prediction(name, classes, (2.0, 1.0), (0.9, 0.1), unsure=False, unlike=not row)
        for row, name in enumerate(catalog.names[:-1])
    ]
    answers.append(Prediction(catalog.names[-1], problem="no image"))
    gallery = write_gallery(answers, catalog, classes, tmp_path / "gallery.html")
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.goto(gallery.as_uri())
    assert not page.locator("#corrections").is_visible()
    page.locator("#filter").select_option("unlike")
    assert page.locator(".card:visible").count() == 1
    page.locator(".card:visible select").select_option(classes[1])
    with page.expect_download() as saved:
        page.locator("#corrections button").click()
    table = tmp_path / "corrections.csv"
    saved.value.save_as(table)
    context.close()
    assert not wrong
    found = read_catalog(photos, labels=table)
    assert found.classes[found.labels[0]] == classes[1] and "1 changed" in found.notes[-1]


def test_a_mistake_is_corrected_on_the_page_of_a_run(browser, tmp_path) -> None:  # type: ignore[no-untyped-def]
    finished_run(tmp_path, trained=True)
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.goto(Path(write_report(tmp_path / "run").path).as_uri())
    choice = page.locator("#mistakes [data-path]").first
    choice.select_option("(leave out)")
    with page.expect_download() as saved:
        page.locator("#corrections button").click()
    saved.value.save_as(tmp_path / "corrections.csv")
    path = choice.get_attribute("data-path")
    context.close()
    rows = list(csv.reader((tmp_path / "corrections.csv").read_text().splitlines()))
    assert rows == [["filename", "label"], [path, ""]]
    assert Path(path).is_file() and not wrong


def test_groups_get_names_and_a_click_shows_what_is_alike(browser, tmp_path) -> None:  # type: ignore[no-untyped-def]
    photos = draw_photos(tmp_path / "photos", ("a", "b"), each=20)
    (photos / "a" / "0.jpg").rename(photos / "<img src=x onerror=alert(1)> 1.00\u202fPM.jpg")
    catalog = read_catalog(photos, classes_are="none")
    found = explore(catalog, tiny_weights(), tmp_path / "out", smallest=4)
    for width, scheme in ((390, "dark"), (1440, "light")):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        context.set_default_timeout(PATIENCE)
        page, wrong = context.new_page(), []
        page.on("console", lambda message, wrong=wrong: wrong.append(message.text))
        page.on("dialog", lambda dialog, wrong=wrong: (wrong.append(dialog.message), dialog.dismiss()))
        page.goto((tmp_path / "out" / "explore.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
        assert not page.locator("#labels").is_visible()
        page.locator("[data-group]").nth(0).fill("<b>first")
        page.locator("[data-group]").nth(1).fill("=second")
        assert page.locator(".map-class[data-class='0']").first.inner_text() == "<b>first"
        page.locator("[data-place]").first.click()
        assert page.locator("#map-chosen button").count() == 10
        with page.expect_download() as saved:
            page.locator("#labels button").click()
        saved.value.save_as(tmp_path / "labels.csv")
        context.close()
        assert not wrong
    labelled = read_catalog(photos, classes_are="none", labels=tmp_path / "labels.csv")
    assert set(labelled.classes) == {"<b>first", "=second"}
    assert (labelled.labels >= 0).sum() == sum(found.groups[:2])
