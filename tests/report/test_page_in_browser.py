"""The page in a real browser, from a file: what a reader does with it, by pointer and by keyboard."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from issl_engine.report.compare import compare_runs
from issl_engine.report.serve import RunServer
from issl_engine.report.write import write_all, write_report

from .browser import Browser, chromium
from .run_folders import CLASSES, add_maps, make_run, result

pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium or chrome is installed here")

NAUGHTY_ARM = "<img src=x onerror=document.title='broken'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(width=1280, height=900) as made:
        yield made


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = make_run(tmp_path_factory.mktemp("browser") / "run", {"a": 9.5, "b": 70.0, "c": 100.0, NAUGHTY_ARM: 30.0})
    (run / "b" / "seed0" / "probes.json").write_text("[]")
    add_maps(run)
    return write_report(run).as_uri()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Browser]:
    """Opened anew; at its end nothing has complained, and nothing but the file was asked for."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.prefer(prefers_color_scheme="light")
    browser.size(1280, 900)
    browser.open(address)
    browser.run("localStorage.clear()")
    yield browser
    assert browser.complaints == []
    assert [request for request in browser.requests if not request.startswith(("file:", "data:"))] == []


def column(page: Browser, index: int) -> list[str]:
    return page.run(
        "[...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden)"
        f".map(r => r.cells[{index}].textContent)"
    )


def place_of(page: Browser, selector: str) -> dict[str, float]:
    """In the viewport, once the element is in its middle."""
    return page.run(
        f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
        "e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect();"
        "return {x: r.left, y: r.top, width: r.width, height: r.height}; })()"
    )


def click(page: Browser, selector: str) -> None:
    box = place_of(page, selector)
    page.point(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, click=True)


def test_numbers_sort_as_numbers_and_gaps_come_last(page: Browser) -> None:
    head = "#table thead th:nth-child(3) button"
    click(page, head)
    assert page.run("document.querySelector('#table th:nth-child(3)').getAttribute('aria-sort')") == "descending"
    falling = column(page, 2)
    means = [float(text.split()[0]) for text in falling]
    assert means == sorted(means, reverse=True)
    assert means[0] == 101.0
    click(page, head)
    assert [float(text.split()[0]) for text in column(page, 2)] == sorted(means)
    click(page, head)
    assert column(page, 0)[:3] == ["a", "b", "c"]
    loss = "#table thead th:nth-child(6) button"
    for order in ("descending", "ascending"):
        click(page, loss)
        assert page.run("document.querySelector('#table th:nth-child(6)').getAttribute('aria-sort')") == order
        assert column(page, 5)[-2:] == ["–", "–"]


def test_sorting_and_filtering_by_keyboard(page: Browser) -> None:
    page.run("document.querySelector('#table thead th button').focus()")
    page.key("Enter", "\r")
    assert page.run("document.querySelector('#table th').getAttribute('aria-sort')") == "ascending"
    page.run("document.getElementById('filter-results-table').focus()")
    page.write("PIXELS raw")
    assert column(page, 0) == ["raw pixels"]
    assert page.run("document.querySelector('#filter-results-table + [role=status]').textContent") == "1 of 6 rows"
    page.key("Escape")
    assert len(column(page, 0)) == 6


def test_legend_switches_arms_off_everywhere(page: Browser) -> None:
    paths = "document.querySelector('#curves .card').querySelectorAll('svg path').length"
    before = page.run(paths)
    click(page, "#legend .chip")
    assert page.run("document.querySelector('#legend .chip').getAttribute('aria-pressed')") == "false"
    page.wait(f"{paths} === {before - 4}")  # three seeds and their mean
    assert page.run("document.querySelectorAll('.maps canvas.plot').length") == 3
    assert page.run("document.querySelector('#table tbody tr').classList.contains('off')")


def test_curves_show_their_values_at_the_pointer_and_by_arrow_keys(page: Browser) -> None:
    box = place_of(page, "#curves svg")
    page.point(box["x"] + box["width"] - 13, box["y"] + 60)
    reported = page.run("document.querySelector('#curves .readout:not([hidden])').innerText")
    assert "epoch 5" in reported
    assert reported.count("4") >= 4  # the loss of every arm ends at 4
    page.point(5, 5)
    assert page.run("document.querySelector('#curves .readout:not([hidden])')") is None
    page.run("document.querySelector('#curves svg').focus()")
    page.key("ArrowRight")
    page.key("ArrowRight")
    assert "epoch 2" in page.run("document.querySelector('#curves .readout:not([hidden])').innerText")
    page.key("Escape")
    assert page.run("document.querySelector('#curves .readout:not([hidden])')") is None


def test_log_scale_and_smoothing_redraw(page: Browser) -> None:
    first = "document.querySelector('#curves svg')?.outerHTML"
    plain = page.run(first)
    page.run("[...document.querySelectorAll('#curves .toggle')].find(b => b.textContent === 'log scale').click()")
    page.wait(f"{first} && {first} !== {json.dumps(plain)}")
    logarithmic = page.run(first)
    page.run(
        "(() => { const s = document.querySelector('#curves input[type=range]'); s.value = 2;"
        "s.dispatchEvent(new Event('input')); })()"
    )
    page.wait(f"{first} && {first} !== {json.dumps(logarithmic)}")


def test_spectra_and_diagnostic_curves_are_drawn(page: Browser) -> None:
    titles = page.run("[...document.querySelectorAll('#diagnostics h4')].map(h => h.firstChild.textContent)")
    assert titles == ["Spectrum: representation", "Spectrum: projection", "rank_me"]
    page.wait("document.querySelectorAll('#diagnostics .card svg').length === 3")


def test_a_class_alone_has_its_own_thumbnails_and_neighbours(page: Browser) -> None:
    colour = (
        "(() => { const copy = document.createElement('canvas').getContext('2d', {willReadFrequently: true});"
        "copy.drawImage(document.querySelector('#map-readout canvas'), 0, 0);"
        "return [...copy.getImageData(24, 24, 1, 1).data]; })()"
    )
    for label, name in enumerate(CLASSES):
        page.run(f"document.querySelectorAll('.classes .chip')[{label}].click()")
        pressed = page.run("[...document.querySelectorAll('.classes .chip')].map(c => c.getAttribute('aria-pressed'))")
        assert pressed == [str(other == label).lower() for other in range(len(CLASSES))]
        page.run("document.querySelector('.maps canvas.plot').focus()")
        for arrow in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowDown"):
            page.key(arrow)
            assert page.run("document.querySelector('#map-readout strong').textContent") == name
            page.wait("document.querySelector('#map-readout canvas').dataset.drawn !== undefined")
            pixel = page.run(colour)
            assert pixel.index(max(pixel[:3])) == label  # images are of one colour per class
        page.key("Enter", "\r")
        titles = page.run("[...document.querySelectorAll('.neighbours button')].map(b => b.title)")
        assert len(titles) == 4 * 8
        assert all(title.startswith(f"{name}, cosine 0.9") for title in titles)  # classes lie apart
        page.key("Escape")
        page.run(f"document.querySelectorAll('.classes .chip')[{label}].click()")


def test_pointing_shows_the_thumbnail_and_picking_the_neighbours_in_every_panel(page: Browser) -> None:
    box = place_of(page, ".maps canvas.plot")
    spot = spot_of_an_image(page, box)
    page.point(*spot)
    page.wait("!document.getElementById('map-readout').hidden")
    page.wait("document.querySelector('#map-readout canvas').dataset.drawn !== undefined")
    name = page.run("document.querySelector('#map-readout strong').textContent")
    assert name in CLASSES
    page.point(*spot, click=True)
    assert page.run("document.querySelectorAll('.neighbours ol').length") == 4
    titles = page.run("[...document.querySelectorAll('.neighbours button')].map(b => b.title)")
    assert len(titles) == 4 * 8
    assert all(title.startswith(f"{name}, cosine 0.9") for title in titles)  # classes lie apart
    page.run("document.querySelector('.neighbours button').click()")
    assert page.run("document.activeElement.className") == "plot"
    page.run("document.querySelector('#picked button').click()")
    assert page.run("document.querySelectorAll('.neighbours ol').length") == 0


def spot_of_an_image(page: Browser, box: dict[str, float]) -> tuple[float, float]:
    """Somewhere in the panel that has an image under it."""
    for step in range(2500):
        x, y = box["x"] + box["width"] * (step % 50 + 0.5) / 50, box["y"] + box["height"] * (step // 50 + 0.5) / 50
        page.point(x, y)
        if page.run("!document.getElementById('map-readout').hidden"):
            return x, y
    raise AssertionError("no image is anywhere in the panel")


def test_the_map_by_keyboard(page: Browser) -> None:
    page.run("document.querySelector('.maps canvas.plot').focus()")
    page.key("ArrowRight")
    first = page.run("document.getElementById('map-readout').style.cssText")
    page.key("ArrowRight")
    page.key("ArrowDown")
    assert page.run("document.getElementById('map-readout').style.cssText") != first
    page.key("Enter", "\r")
    assert page.run("document.querySelectorAll('.neighbours ol').length") == 4
    page.key("Escape")
    assert page.run("document.querySelectorAll('.neighbours ol').length") == 0
    assert page.run("document.getElementById('map-readout').hidden")


def test_dark_follows_the_system_until_the_reader_chooses(page: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.run(background)
    page.prefer(prefers_color_scheme="dark")
    dark = page.run(background)
    assert light != dark
    click(page, "#theme")
    assert page.run(background) == light
    click(page, "#theme")
    page.prefer(prefers_color_scheme="light")
    assert page.run(background) == dark


def test_a_narrow_page_does_not_scroll_sideways(page: Browser) -> None:
    page.size(400, 800)
    page.wait("document.documentElement.scrollWidth <= 400")


def test_everything_interactive_is_reached_by_tab_and_has_a_name(page: Browser) -> None:
    nameless = page.run(
        "[...document.querySelectorAll('button, select, input, canvas.plot, svg[tabindex]')].filter(e =>"
        "e.tabIndex < 0 || !(e.innerText || e.getAttribute('aria-label') || e.labels?.[0]?.innerText))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []
    assert page.run("getComputedStyle(document.querySelector('.static')).display") == "none"


def test_names_are_never_markup(page: Browser) -> None:
    assert page.run("document.title") == "run"
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    assert NAUGHTY_ARM in column(page, 0)


def test_without_scripts_tables_and_figures_are_there(page: Browser, address: str) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(address)
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("document.querySelectorAll('.static svg').length") == 4
    assert page.run("getComputedStyle(document.querySelector('.static')).display") == "block"
    assert page.run("document.querySelectorAll('#table tbody tr').length") == 6


def test_a_comparison_of_runs_has_a_column_for_the_run(page: Browser, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, {"a": 60.0}, seeds=[0]) for name in ("one", "two")]
    (runs[0] / "a" / "seed0" / "probes.json").write_text(json.dumps([result(61.0), result(9.0, setting="5-shot")]))
    page.open(write_all(tmp_path / "both", compare_runs(runs)).as_uri())
    assert column(page, 1)[:2] == ["one", "two"]
    assert page.run("document.querySelectorAll('#scores svg').length") == 3


def test_a_running_page_grows_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a": 60.0}, seeds=[0], status="running")
    browser.complaints.clear()
    with RunServer([tmp_path], 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            (digest,) = server.runs()
            browser.open(f"{server.address}run/{digest}/")
            browser.wait("document.querySelector('.live').textContent === 'live, step 50'")
            browser.run("window.kept = true")
            metrics = run / "a" / "seed0" / "metrics.jsonl"
            more = {"step": 60, "epoch": 6.0, "loss": 2.5, "images_per_second": 9.0, "seconds": 1.0}
            metrics.write_text(metrics.read_text() + json.dumps(more) + "\n")
            browser.wait("document.querySelector('.live').textContent === 'live, step 60'")
            assert column(browser, 5)[0] == "2.500"
            browser.wait("document.querySelector('#curves svg').getAttribute('aria-label').includes('2.5')")
            record: dict[str, Any] = json.loads((run / "run.json").read_text())
            (run / "run.json").write_text(json.dumps(record | {"status": "finished"}))
            browser.wait("document.querySelector('.live').textContent.startsWith('finished')")
            assert browser.run("window.kept")
            assert browser.complaints == []
        finally:
            server.shutdown()
            thread.join()
