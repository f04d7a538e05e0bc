"""Price files: what is read, what is refused and in which words."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError, UsageError
from batcher.pricing.book.book import load_file, load_shipped, parse_book
from batcher.pricing.book.layer import parse_toml
from batcher.pricing.book.merge import render_layer
from batcher.pricing.rate.rates import rate_set
from tests.pricing.answers import DAY, NOVEMBER

HEAD = 'version = "mine-1"\nextends = "nothing"\n'
ROUND = 'version = "1"\nround = true\n'
BLOCK = """
[[rates]]
model = "m"
valid_from = 2026-01-01
input = "1"
output = "5"
"""


def block(**fields):
    lines = {
        "model": '"m"',
        "valid_from": "2026-01-01",
        "input": '"1"',
        "output": '"5"',
        **fields,
    }
    return "[[rates]]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items() if v is not None)


def rates(book, price_list="anthropic", model="m"):
    return [
        p for p in book.lists[price_list].periods if p.model == model and p.terms == "standard"
    ]


def test_a_file_that_stands_alone_has_only_its_own_prices():
    book = parse_book(HEAD + BLOCK)
    assert book.version == "mine-1"
    assert book.lists["anthropic"].models() == ("m",)
    assert rates(book)[0].rates == (1_000_000, None, None, None, 5_000_000, None)


def test_a_file_extends_the_shipped_book_by_default():
    book = parse_book('version = "mine-1"\n' + BLOCK)
    assert book.version == f"mine-1+{load_shipped().version}"
    assert {"m", "claude-opus-5"} <= set(book.lists["anthropic"].models())


def test_own_rates_replace_the_whole_history_of_a_model():
    book = parse_book('version = "1"\n' + block(model='"claude-sonnet-5-5"'))
    assert len(rates(book, model="claude-sonnet-5-5")) == 1


@pytest.mark.parametrize("text", [HEAD + BLOCK, 'version = "1"\n' + BLOCK])
def test_the_content_of_a_book_reads_back_as_the_same_book(text):
    book = parse_book(text)
    assert parse_book(book.content) == book


def test_the_shipped_book_survives_being_written_and_read():
    shipped = load_shipped()
    again = parse_book(render_layer(parse_toml(shipped.content, "x")))
    assert again.lists == shipped.lists
    assert again.context_tokens == shipped.context_tokens


def test_a_discount_applies_to_what_is_taken_over_and_not_to_own_rates():
    book = parse_book(ROUND + '[lists.anthropic]\nfactor = "0.85"\n' + BLOCK)
    assert rates(book, model="claude-opus-5")[0].rates[0] == 4_250_000
    assert rates(book)[0].rates[0] == 1_000_000


def test_a_discount_that_needs_rounding_must_say_so():
    with pytest.raises(
        ConfigurationError, match=r"claude-haiku-5-5 \(batch/regional.*round = true"
    ):
        parse_book('version = "1"\n[lists.anthropic]\nfactor = "0.85"\n')


def test_a_list_can_be_based_on_another_in_its_own_currency():
    book = parse_book(
        'version = "1"\n[lists.foundry]\nbased_on = "anthropic"\n'
        'currency = "CCU"\nfactor = "100"\n'
    )
    assert book.lists["foundry"].currency == "CCU"
    assert rates(book, "foundry", "claude-opus-5")[0].rates[0] == 500_000_000
    assert rates(book, model="claude-opus-5")[0].rates[0] == 5_000_000


def test_a_list_of_a_list_multiplies_both_factors():
    book = parse_book(
        ROUND + '[lists.a]\nbased_on = "b"\nfactor = "0.5"\n'
        '[lists.b]\nbased_on = "anthropic"\nfactor = "0.5"\n'
    )
    assert rates(book, "a", "claude-opus-5")[0].rates[0] == 1_250_000


def test_a_rate_between_two_pico_units_is_rounded_half_to_even_when_allowed():
    text = HEAD + "round = true\n" + block(input='"0.0000005"', output='"0.0000015"')
    assert rate_set(rates(parse_book(text))[0], "standard", "", "USD").rates[:5:4] == (0, 2)


def test_an_old_book_knows_its_age():
    book = parse_book(HEAD + "published = 2026-01-01\n" + BLOCK)
    assert book.age_days(1_767_225_600_000_000 + 40 * 86_400_000_000) == 40
    assert parse_book(HEAD + BLOCK).age_days(0) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not toml", "not readable as TOML"),
        (BLOCK, "version is missing"),
        (HEAD + "colour = 1\n", "unknown setting `colour`"),
        (HEAD + "format = 2\n", "format is not 1"),
        (HEAD + 'aliases = { a = 1 }\n', "aliases.*: must be text in quotes"),
        (HEAD + 'note = "\\u0000"\n', "holds a NUL"),
        (HEAD + 'rates = "x"\n', "rates: must be a list"),
        (HEAD + block(model=None), "block 1: model is missing"),
        (HEAD + block(input="1.5"), r"block 1 \(m\): input: write prices in quotes.* not 1.5"),
        (HEAD + block(input="3"), "input: write prices in quotes.* not 3"),
        (HEAD + block(input='"-1"'), "input: is below zero"),
        (HEAD + block(input='"1e3"'), "input: '1e3' is not a decimal"),
        (HEAD + block(inputs='"1"'), r"\(m\): unknown setting `inputs`"),
        (HEAD + block(terms='"slow"'), "terms is 'slow', not one of standard, batch, fast"),
        (HEAD + block(valid_from='"2026"'), "valid_from: must be a day"),
        (HEAD + block(valid_from="2026-01-01T00:00:00Z"), "valid_from: must be a day"),
        (HEAD + block(valid_from=None), "valid_from is missing"),
        (HEAD + block(valid_until="2025-12-31"), "valid_until is before valid_from"),
        (HEAD + block(batch_factor='"0"'), "batch_factor is not above zero"),
        (HEAD + block(batch_factor='"0.5"', terms='"fast"'), "makes no sense for terms fast"),
        (HEAD + block(geographies='{ us = 1.1 }'), "geographies.*: write prices.* not 1.1"),
        (HEAD + block(prompt_tokens_above="-1"), "prompt_tokens_above: must be a whole"),
        (HEAD + block(input=None, output=None), "input is missing, and so is every other"),
        (HEAD + block(input='"0.0000001"'), r"m \(standard, from 2026-01-01\): input is finer"),
        (HEAD + block(batch_factor='"0.0000001"'), r"m \(batch, from .*input is finer"),
        (HEAD + block(input='"1000001"'), "input is dearer than one whole unit"),
        (HEAD + block() + block(), "m: valid_from 2026-01-01 lies in the period"),
        (HEAD + block(valid_until="2026-03-01") + block(valid_from="2026-03-01"), "lies in"),
        (HEAD + block(batch_factor='"0.5"') + block(terms='"batch"'), "given twice"),
        (HEAD + '[lists.a]\nbased_on = "b"\n', "list a is based on b, which does not exist"),
        (HEAD + '[lists.a]\nbased_on = "a"\n', "list a is based on itself"),
        (HEAD + '[lists.a]\ncurrency = "dollars"\n', "currency is 'dollars', not a name"),
        (HEAD + '[aliases]\na = "b"\nb = "c"\n', "alias a names another alias, b"),
        ('version = "1"\n[lists.anthropic]\ncurrency = "EUR"\n', "needs a factor"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_name_and_the_place(text, words):
    with pytest.raises(ConfigurationError, match=f"prices.toml.*{words}"):
        parse_book(text, "prices.toml")


ODD_VALUES = [
    "1",
    "-1",
    "1.5",
    "nan",
    "true",
    '""',
    '"x"',
    '"-1"',
    '"0"',
    '"1"',
    "[]",
    "[1]",
    "{}",
    "{ us = 1 }",
    '{ us = "2" }',
    "2026-01-01",
    "12:00:00",
    '"\\u0000"',
]
FIELDS = [
    "list",
    "model",
    "terms",
    "prompt_tokens_above",
    "valid_from",
    "valid_until",
    "input",
    "output",
    "web_search",
    "batch_factor",
    "geographies",
    "note",
    "strange",
]


@given(st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ODD_VALUES), max_size=4))
def test_odd_values_give_a_book_or_one_sentence(values):
    try:
        book = parse_book(HEAD + block(**values))
    except ConfigurationError as error:
        words = str(error)
    else:
        words = "price book: none"
        assert parse_book(book.content) == book
    assert words.startswith("price book: ")


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with pytest.raises(ConfigurationError):
        parse_book(text)


def test_neighbouring_periods_are_no_overlap():
    text = HEAD + block(valid_until="2026-02-28") + block(valid_from="2026-03-01")
    assert len(rates(parse_book(text))) == 2


@pytest.mark.parametrize(
    ("day", "holds"),
    [("2025-12-31", False), ("2026-01-01", True), ("2026-02-28", True), ("2026-03-01", False)],
)
def test_a_price_holds_from_its_first_to_its_last_day(day, holds):
    (period,) = rates(parse_book(HEAD + block(valid_until="2026-02-28")))
    assert period.holds_on(date.fromisoformat(day)) is holds


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_with_credits_makes_a_list_of_its_own(tmp_path):
    path = write(
        tmp_path,
        "crun.csv",
        "\ufefflist,currency,model,valid_from,input,output,geographies\n"
        "crun,CRUN_CREDIT,claude-sonnet-4-6,2026-06-01,300,1500,us=1.1;eu=1.2\n",
    )
    book = load_file(path)
    assert book.lists["crun"].currency == "CRUN_CREDIT"
    assert rates(book, "crun", "claude-sonnet-4-6")[0].rates[0] == 300_000_000
    assert dict(rates(book, "crun", "claude-sonnet-4-6")[0].geographies).keys() == {"us", "eu"}
    assert parse_book(book.content) == book


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no line with a price"),
        ("model,input\nm,1\n", "no column valid_from"),
        ("model,valid_from,input\nm,yesterday,1\n", r"line 2 \(m\): valid_from: must be a day"),
        ("model,valid_from,input\nm,2026-01-01\n", "line 2: the cells are not as many"),
        ("model,valid_from,input\nm,2026-01-01,1,2\n", "line 2: the cells are not as many"),
        ("model,valid_from,price\nm,2026-01-01,1\n", r"line 2 \(m\): unknown setting `price`"),
        ('model,valid_from,input\n"m,2026-01-01,1\n', "not CSV"),
        (
            "currency,model,valid_from,input\nUSD,a,2026-01-01,1\nEUR,b,2026-01-01,1\n",
            "line 3: price list anthropic has two currencies",
        ),
    ],
)
def test_a_wrong_csv_is_refused_with_its_line(tmp_path, text, words):
    with pytest.raises(ConfigurationError, match=words):
        load_file(write(tmp_path, "p.csv", text))


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such price file"):
        load_file(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "p.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_file(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_file(Path(tmp_path))


def test_the_same_csv_elsewhere_is_the_same_book(tmp_path):
    text = "model,valid_from,input,output\nm,2026-01-01,1,2\n"
    (tmp_path / "a").mkdir()
    books = [load_file(write(folder, "p.csv", text)) for folder in (tmp_path, tmp_path / "a")]
    assert books[0].sha256 == books[1].sha256


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (NOVEMBER, "claude-sonnet-4-5 retires on 2026-11-30: choose another model"),
        (NOVEMBER - 30 * DAY, ""),
        (NOVEMBER + 30 * DAY, "claude-sonnet-4-5 retired on 2026-11-30: choose another model"),
    ],
)
def test_a_model_that_retires_within_thirty_days_is_told(day, words):
    book = load_shipped()
    assert book.retirement_words("anthropic", "claude-sonnet-4-5", day) == words
    assert book.retirement_words("anthropic", "claude-opus-5-5", day) == ""
    assert book.retirement_words("anthropic", "unheard-of", day) == ""
