"""The page in a real browser: drawn, quiet, no wider than the screen, on phone and desk, light and dark."""

import html
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.host.report.toys import facts
from tools.check_package import browser
from vit_edge.host.report.page import render

PHONE, DESK = 390, 1200
FLAGS = [
    *browser.FLAGS,
    "--disable-component-update",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
]
LONG = "a name that is long enough to break lines, and_one_part_of_it_" + "x" * 80

pytestmark = pytest.mark.skipif(
    browser.CHROMIUM is None, reason="needs chromium or chrome to look at the page"
)

# A page around the page: a window cannot be as narrow as a phone, and only it may run a script.
AROUND = """<!DOCTYPE html><body style="margin:0"><iframe width="{width}" height="{height}"
style="border:0;display:block" srcdoc="{page}"></iframe><script>
const frame = document.querySelector("iframe");
function measure() {{
  const inner = frame.contentDocument, root = inner.documentElement;
  const boxes = [...inner.querySelectorAll("svg")].map(svg => {{
    const {{x, y, width, height}} = svg.getBoundingClientRect();
    const lines = [...svg.querySelectorAll("text")].map(each => each.getBoundingClientRect().height);
    return {{x, y, width, height, paths: svg.querySelectorAll("path").length, text: Math.min(...lines)}};
  }});
  return {{
    charts: boxes,
    overflow: root.scrollWidth - root.clientWidth,
    height: root.scrollHeight,
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map(each => each.name),
    broken: [...inner.images].filter(each => !each.naturalWidth).length,
    images: inner.images.length,
    paper: frame.contentWindow.getComputedStyle(inner.body).backgroundColor,
    ink: frame.contentWindow.getComputedStyle(inner.body).color,
  }};
}}
frame.addEventListener("load", () => {{
  const found = document.createElement("pre");
  found.textContent = JSON.stringify(measure());
  document.body.append(found);
}});
</script></body>"""

Look = Callable[..., "Seen"]


class Seen:
    """What one look at the page found."""

    def __init__(self, measured: dict[str, Any], log: str, picture: Path | None) -> None:
        self.measured, self.log, self.picture = measured, log, picture


def browse(profile: Path, dark: bool, *words: str) -> "subprocess.CompletedProcess[str]":
    assert browser.CHROMIUM is not None
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [browser.CHROMIUM, *FLAGS, *scheme, f"--user-data-dir={profile}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def page() -> str:
    return render(facts(label=LONG, name=f"{LONG}.onnx"))


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory, page: str) -> Look:
    folder = tmp_path_factory.mktemp("browser")

    def look_at(width: int, dark: bool, picture: bool = False, text: str = page) -> Seen:
        around = folder / f"around{width}.html"
        around.write_text(AROUND.format(width=width, height=600, page=html.escape(text)), encoding="utf-8")
        result = browse(folder / "profile", dark, "--dump-dom", around.as_uri())
        found = re.findall(r"<pre>(.*?)</pre>", result.stdout, re.DOTALL)
        measured: dict[str, Any] = json.loads(html.unescape(found[-1]))
        if not picture:
            return Seen(measured, result.stderr, None)
        height = measured["height"]
        around.write_text(AROUND.format(width=width, height=height, page=html.escape(text)), encoding="utf-8")
        target = folder / f"{width}{dark}.png"
        window = f"--window-size={max(width, 500)},{height}"
        browse(folder / "profile", dark, window, f"--screenshot={target}", around.as_uri())
        return Seen(measured, result.stderr, target)

    return look_at


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
def test_every_chart_is_drawn_and_fits(look: Look, width: int, dark: bool) -> None:
    seen = look(width, dark, picture=True)
    charts = seen.measured["charts"]
    assert len(charts) == 13
    assert seen.picture is not None
    picture = np.asarray(Image.open(seen.picture).convert("L")).astype(int)
    paper = picture[5, 5]
    assert bool(paper < 60) is dark
    for box in charts:
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["paths"] > 3
        left, top = round(box["x"]), round(box["y"])
        inside = picture[top : top + int(box["height"]), left : left + int(box["width"])]
        assert np.abs(inside - paper).max() > 80  # ink that stands out from the paper
        assert 0.005 < np.mean(np.abs(inside - paper) > 20) < 0.9


@pytest.mark.parametrize("width", [320, PHONE, 700, DESK])
def test_nothing_is_wider_than_the_screen(look: Look, width: int) -> None:
    assert look(width, dark=False).measured["overflow"] == 0


def test_a_page_that_is_too_wide_would_be_noticed(look: Look, page: str) -> None:
    broken = page.replace("</main>", '<p style="width: 900px">wide</p></main>')
    assert look(PHONE, dark=False, text=broken).measured["overflow"] > 300


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_text_in_charts_is_large_enough_to_read(look: Look, width: int) -> None:
    assert min(box["text"] for box in look(width, dark=False).measured["charts"]) > 9  # px, line height


def test_the_page_takes_the_readers_colours(look: Look) -> None:
    light, dark = (look(DESK, dark=dark).measured for dark in (False, True))
    assert (light["paper"], light["ink"]) == ("rgb(255, 255, 255)", "rgb(27, 30, 35)")
    assert (dark["paper"], dark["ink"]) == ("rgb(20, 22, 26)", "rgb(231, 233, 237)")


def test_nothing_is_fetched_and_no_picture_is_missing(look: Look) -> None:
    measured = look(DESK, dark=False).measured
    assert [name for name in measured["fetched"] if not name.startswith("data:")] == []
    assert (measured["images"], measured["broken"]) == (24, 0)


def test_the_browser_has_nothing_to_complain_about(look: Look) -> None:
    assert "CONSOLE" not in look(DESK, dark=False).log


def test_what_the_policy_forbids_would_be_noticed(look: Look, page: str) -> None:
    broken = page.replace("</main>", '<img src="https://example.invalid/x.png" alt="x"></main>')
    assert "Content Security Policy" in look(DESK, dark=False, text=broken).log


def test_the_page_prints_on_paper_whatever_the_screen(tmp_path: Path, page: str) -> None:
    source, target = tmp_path / "page.html", tmp_path / "page.pdf"
    source.write_text(page, encoding="utf-8")
    browse(tmp_path / "profile", True, f"--print-to-pdf={target}", source.as_uri())
    pages = target.read_bytes().count(b"/Type /Page\n")
    assert 4 <= pages <= 12


def test_a_report_with_many_pictures_stays_small(page: str) -> None:
    assert len(page.encode()) < 2_000_000
