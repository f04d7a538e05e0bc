"""The documentation as a site: it builds strictly and loads nothing from elsewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.browser import BROWSER, browse

DOCS = Path(__file__).parent.parent / "docs"
LOADED = re.compile(r"<(?:script|img|iframe|link|source)\b[^>]*?\b(?:src|href)=\"([^\"]*)\"")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if importlib.util.find_spec("furo") is None:
        pytest.skip("the extra `docs` is not installed: the site was not built")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-m", "sphinx", "-W", "--keep-going", "-q"]
    words = [*command, "-d", folder / "trees", DOCS, folder / "site"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_nothing_is_loaded_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text("utf-8")
        assert not [each for each in LOADED.findall(text) if "//" in each], page.name
        assert "<script" in text  # they are found
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)[^;)]*//", style.read_text("utf-8")), style.name


def test_every_page_is_in_the_table_of_contents(site):
    contents = (site / "index.html").read_text("utf-8")
    named = set(re.findall(r'class="reference internal" href="([\w/.-]+)\.html', contents))
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    assert pages - named <= {"index"}


def test_the_reference_is_what_the_code_says(site):
    def shown(name):
        return (site / "reference" / f"{name}.html").read_text("utf-8")

    assert "--max-cost" in shown("options")
    assert "batcher jobs crontab" in shown("options")
    assert "BATCHER_MAX_COST_MONTH" in shown("settings")
    assert "cost_high_pico_usd" in shown("views")
    assert "TooManyBadRows" in shown("errors")
    assert "organization_on_hold" in shown("verdicts")
    assert "TOOL_USE_UNANSWERED" in shown("rules")


@pytest.mark.parametrize("width", [1200, 500])
def test_a_real_browser_draws_it(site, width):
    if BROWSER is None:
        pytest.skip("no chromium or chrome is installed: the site was not drawn by a browser")
    picture = site.parent / f"{width}.png"
    browse(site / "tour.html", f"--screenshot={picture}", f"--window-size={width},1800")
    assert picture.stat().st_size > 20_000  # a blank page packs into some hundred bytes
