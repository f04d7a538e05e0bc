import re
import struct
import zlib
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.ledger.connect import open_engine
from batcher.pricing.rate.rates import month_window
from batcher.report.html.charts import bins_for, round_step, scale_for
from batcher.report.html.page import MOST_LINES, gather, render_page
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.words import shorten_apart
from tests.report.browser import BROWSER, browse
from tests.report.ledger_rows import MICRO_USD, NOON
from tests.report.months import Buffered, filled
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>&'"
VOID = {"meta"}  # self-closed ones come by another way


def html_of(engine, *words):
    return render_page(gather([engine], ReportQuery(by=parse_dimensions(words)), NOON))


@pytest.fixture(scope="module")
def page(sqlite_template, tmp_path_factory):
    """The page over some weeks of answers, as a file."""
    database = tmp_path_factory.mktemp("weeks") / "weeks.db"
    database.write_bytes(sqlite_template.read_bytes())
    filled(str(database))
    engine = open_engine(str(database), read_only=True)
    target = database.with_name("report.html")
    target.write_text(html_of(engine))
    engine.dispose()
    return target


def without_name(text):
    return re.sub(r'<p class="origin">.*?</p>', "", text)


class Shape(HTMLParser):
    """Whether every element is closed in its place, and which there are."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def shape_of(text):
    shape = Shape()
    shape.feed(text)
    assert shape.open == []
    return shape.seen


def test_the_page_is_one_small_well_formed_file_without_anything_from_elsewhere(page):
    text = page.read_text()
    seen = shape_of(text)
    assert len(text) < 100_000
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in seen)
    assert not [a for _, a in seen if {"src", "href", "style", "onclick"} & a.keys()]
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text


def test_the_policy_allows_the_pages_own_style_and_nothing_else(page):
    policies = [a["content"] for tag, a in shape_of(page.read_text()) if "http-equiv" in a]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='", policies[0]
    )


def test_every_drawing_is_there_with_its_words(page):
    text = page.read_text()
    titles = re.findall(r"<article>\s*<h2>(.*?)</h2>", text)
    assert titles == [
        "Cost per day", "Running total", "Cost by meter", "Cost of a row", "Latency", "Waste",
    ]  # fmt: skip
    assert "Without a price" in text
    assert "In doubt: " in text
    assert "Events: 600 attempts" in text


@BOTH
def test_names_from_the_database_are_text_and_nothing_else(rows, engine):
    rows.run(job=EVIL)
    rows.invocation(1)
    rows.source(1)
    rows.charge(rows.answer(1, 1, model=EVIL), 5 * MICRO_USD, model=EVIL)
    text = html_of(engine, "job", "model")
    shape_of(text)
    assert "<script" not in text
    assert "<img" not in text
    assert text.count("&lt;script&gt;") >= 3


def test_the_page_says_of_which_ledger_it_is_and_when_it_was_made(page):
    assert '<p class="origin">weeks.db, as of 2026-01-05 12:00</p>' in page.read_text()


def test_a_whole_is_drawn_behind_its_shares(page):
    """Cost by meter and waste are parts of all cost; the widest share is no whole bar."""
    for name in ("Cost by meter", "Waste"):
        card = re.search(rf"<h2>{name}</h2>.*?</article>", page.read_text(), flags=re.S)[0]
        boxes = re.findall(r'<rect class="s(\d)" x="0" y="\d+" width="(\d+)"', card)
        assert [int(width) for series, width in boxes if series == "8"] == [5200] * (
            card.count("</text>") // 2
        )
        assert max(int(width) for series, width in boxes if series != "8") < 5200


@BOTH
def test_however_long_the_names_they_differ_and_leave_room_for_the_numbers(rows, engine):
    rows.run(job="nightly-classification-" * 6)
    rows.invocation(1)
    rows.source(1)
    for number, end in enumerate(("alpha", "beta")):
        model = f"{'provisioned-throughput-' * 6}{end}"
        rows.charge(rows.answer(1, 1, number, model=model), 5 * MICRO_USD, model=model)
    text = html_of(engine, "job", "model")
    names = re.findall(r'<td class="key">(.*?)</td>', text)
    assert len(set(names)) >= 3
    assert max(map(len, names)) <= 44
    latency = re.search(r"<h2>Latency</h2>.*?</article>", text, flags=re.S)[0]
    assert "alpha</text>" in latency
    assert "beta</text>" in latency


def test_columns_that_a_phone_has_no_room_for_are_marked(page):
    head = re.search(r"<thead>.*?</thead>", page.read_text())[0]
    titles = re.findall(r'<th scope="col" class="(?:key|number)">(.*?)</th>', head)
    assert titles == ["Model", "Answered", "Input", "Output", "Cost (USD)"]
    assert ">Cache read</th>" in head


@given(texts=st.lists(st.text(max_size=60), max_size=30), length=st.integers(12, 40))
def test_shortened_names_fit_and_differ(texts, length):
    short = shorten_apart(texts, length)
    assert all(len(each) <= length for each in short)
    assert all(s == t for s, t in zip(short, texts, strict=True) if len(t) <= length) or len(
        set(texts)
    ) == len(set(short))


def test_an_empty_ledger_makes_a_page_that_says_so(rows, engine):
    text = html_of(engine)
    shape_of(text)
    assert "Nothing was sent" in text
    assert "<article>" not in text


def test_answers_without_any_price_make_a_page_that_says_so(rows, engine):
    rows.run()
    rows.invocation(1)
    rows.source(1)
    rows.charge(rows.answer(1, 1), None)
    text = html_of(engine)
    shape_of(text)
    assert '<p class="value">unpriced</p>' in text
    assert "Cost per" not in text


def test_the_same_ledger_gives_the_same_bytes(page, sqlite_template, tmp_path):
    database = tmp_path / "again.db"
    database.write_bytes(sqlite_template.read_bytes())
    filled(str(database))
    engine = open_engine(str(database), read_only=True)
    assert without_name(html_of(engine)) == without_name(page.read_text())
    engine.dispose()


def test_both_databases_give_the_same_bytes(page, postgres_url):
    filled(postgres_url)
    engine = open_engine(postgres_url, read_only=True)
    assert without_name(html_of(engine)) == without_name(page.read_text())
    engine.dispose()


def test_thousands_of_lines_are_cut_to_the_dearest_and_the_total_stays(
    database_url,  # noqa: F811
    engine,
):
    rows = Buffered(database_url)
    rows.run()
    rows.invocation(1)
    rows.source(1)
    for number in range(MOST_LINES + 5):
        attempt = rows.answer(1, 1, number, model=f"m{number}")
        rows.charge(attempt, (number + 1) * MICRO_USD)
    rows.flush()
    rows.engine.dispose()
    text = html_of(engine)
    assert len(text) < 500_000
    assert "5 more are in the total" in text
    assert "others" in text
    assert ">m4</td>" not in text
    assert ">m5</td>" in text


def test_a_long_time_is_drawn_by_week_or_month_and_a_short_one_by_hour(rows, engine):
    rows.run()
    rows.invocation(1)
    rows.source(1)
    day = 86_400_000_000
    seen = []
    for number, distance in enumerate((0, 1, 100, 900)):
        sent = {"sent_at": NOON + distance * day}
        rows.charge(rows.answer(1, 1, number, attempt=sent), 7 * MICRO_USD)
        seen.append(re.search(r"<h2>Cost per (\w+)</h2>", html_of(engine))[1])
    assert seen == ["hour", "hour", "week", "month"]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Australia/Lord_Howe", "Europe/Paris"])
def test_every_bucket_of_any_time_zone_is_drawn(rows, engine, zone):
    rows.run()
    rows.invocation(1)
    rows.source(1)
    october = NOON + 292 * 86_400_000_000  # summer time ends or begins in these days
    for hour in range(30):
        sent = {"sent_at": october + hour * 3_600_000_000}
        rows.charge(rows.answer(1, 1, hour, attempt=sent), 10**12)
    query = ReportQuery(timezone=zone)
    text = render_page(gather([engine], query, NOON))
    shape_of(text)
    assert ">$30.00</text>" in text


def test_a_ledger_of_credits_only_is_drawn_in_credits(rows, engine):
    rows.run()
    rows.invocation(1)
    rows.source(1)
    rows.charge(rows.answer(1, 1), 3 * 10**12, currency="CRUN_CREDIT", input_amount=3 * 10**12)
    text = html_of(engine)
    shape_of(text)
    assert '<p class="value">3.00 CRUN_CREDIT</p>' in text


def test_the_running_total_of_a_whole_month_has_its_cap(rows, engine):
    rows.run()
    rows.invocation(1)
    rows.source(1)
    rows.charge(rows.answer(1, 1, 1), 10**12)
    rows.insert_many(
        "budgets", [{"scope": "month:2026-01", "cap": 25 * 10**12, "granted": 0, "settled": 0}]
    )
    since, until = month_window("2026-01")
    text = render_page(gather([engine], ReportQuery(since=since, until=until), NOON))
    assert "The red line is the cap of the month, $25.00." in text
    part = render_page(gather([engine], ReportQuery(since=since, until=until - 1), NOON))
    assert "The red line" not in part


def test_the_running_total_of_a_run_has_its_cap(rows, engine):
    rows.run()
    rows.invocation(1)
    rows.source(1)
    rows.charge(rows.answer(1, 1), 3 * 10**12)
    rows.insert_many(
        "budgets", [{"scope": "run:1", "cap": 25 * 10**12, "granted": 0, "settled": 0}]
    )
    text = render_page(gather([engine], ReportQuery(run=1), NOON))
    assert "<title>the cap: $25.00</title>" in text
    assert "cap" not in html_of(engine).split("<article>")[2]


def test_round_steps_and_bins():
    assert [round_step(n, 4) for n in (1, 4, 5, 8, 9, 41)] == [1, 1, 2, 2, 5, 20]
    assert scale_for(0, 100).place(0) == 0
    assert bins_for(3, 3) == [(3, 4)]
    assert bins_for(12340, 12349, narrowest=10) == [(12340, 12350)]
    assert bins_for(1, 30) == [(1, 2), (2, 5), (5, 10), (10, 20), (20, 50)]


def pixels(path):
    """The distinct colours of a PNG with 8 bits and 3 or 4 channels, without a library."""
    data = path.read_bytes()
    width, _, _, kind = struct.unpack(">IIBB", data[16:26])
    places = [m.start() for m in re.finditer(b"IDAT", data)]
    packed = b"".join(data[p + 4 : p + 4 + int.from_bytes(data[p - 4 : p])] for p in places)
    return len(set(zlib.decompress(packed))), width, kind


@pytest.mark.parametrize("width", [1200, 500])
def test_a_real_browser_draws_it(page, width):
    if BROWSER is None:
        pytest.skip("no chromium or chrome is installed: the page was not drawn by a browser")
    picture = page.with_name(f"{width}.png")
    browse(page, f"--screenshot={picture}", f"--window-size={width},1800")
    different, drawn_width, _ = pixels(picture)
    assert drawn_width == width
    assert different > 50  # a blank page has a handful of byte values


def test_the_browser_applies_the_style_that_the_policy_names(page):
    if BROWSER is None:
        pytest.skip("no chromium or chrome is installed: the page was not drawn by a browser")
    probe = page.with_name("probe.html")
    probe.write_text(
        page.read_text().replace("</body>", "<script>document.title=1</script></body>")
    )
    text = browse(probe, "--dump-dom")
    assert "<title>What the answers cost</title>" in text  # the script was not run
