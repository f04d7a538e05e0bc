"""An audit of a ledger: what the tables hold, against everything that batcher prints of it.

    python -m tests.e2e.audit batcher.db [MORE OPTIONS OF batcher]

It shares no code with the program: sums are made here from the tables of a SQLite file, in
integers of 10^-12, and commands are typed as a person types them. Text for people has few
digits: there half of the last one printed is allowed, everywhere else nothing is.
"""

import csv
import io
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from pathlib import Path

import pyarrow.parquet as pq

PICO = 10**12
METERS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search")
Type = Callable[..., bytes]  # types a command: its standard output
_CHARGES = """
  SELECT c.*, a.attempt_uid, i.endpoint, r.currency AS rate_currency,
    coalesce(c.model, a.requested_model) AS shown_model, w.model AS answering,
    {rates}
  FROM charges c JOIN attempts a USING (attempt_id)
  JOIN invocations i ON i.invocation_id = a.invocation_id
  JOIN answers w ON w.attempt_id = c.attempt_id
  LEFT JOIN rate_sets r ON r.rate_set_id = c.rate_set_id
  WHERE c.current = 1
"""


@dataclass
class Truth:
    """What the tables hold, by model and for all; pico-units."""

    cost: Counter = field(default_factory=Counter)  # (model, currency)
    assumed_low: Counter = field(default_factory=Counter)
    assumed_high: Counter = field(default_factory=Counter)
    unpriced: Counter = field(default_factory=Counter)
    doubt_low: int = 0
    doubt_high: int = 0
    refused_high: int = 0
    adjusted: int = 0
    charges: list = field(default_factory=list)

    def total(self, currency: str) -> int:
        return sum(amount for (_, of), amount in self.cost.items() if of == currency)


def truth_of(database: str) -> Truth:
    """Read it, and check on the way that every charge is its quantities times its rates."""
    truth = Truth()
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    rates = ", ".join(f"r.{meter}_rate AS {meter}_rate" for meter in METERS)
    for row in db.execute(_CHARGES.format(rates=rates)):
        charge = dict(row)
        truth.charges.append(charge)
        _count(truth, charge)
    for state, low, high in db.execute("SELECT state, cost_low, cost_high FROM attempts"):
        if state in {"open", "partial", "unknown", "unusable"}:
            truth.doubt_low, truth.doubt_high = truth.doubt_low + low, truth.doubt_high + high
        elif state == "rejected":
            truth.refused_high += high
    (truth.adjusted,) = db.execute(
        "SELECT coalesce(sum(amount), 0) FROM adjustments"
    ).fetchone()
    db.close()
    return truth


def _count(truth: Truth, charge: dict) -> None:
    model = charge["answering"] or charge["shown_model"]
    total = charge["total_amount"]
    if total is None:
        truth.unpriced[model] += 1
        return
    of = [(charge[f"{m}_quantity"] or 0) * (charge[f"{m}_rate"] or 0) for m in METERS]
    if charge["status"] == "unbilled":
        assert total == 0, charge
    else:
        assert of == [charge[f"{meter}_amount"] or 0 for meter in METERS], charge
        assert sum(of) == total, charge
    if charge["currency"]:
        truth.cost[model, charge["currency"]] += total
    if charge["status"] == "assumed":
        assert charge["high_amount"] >= total, charge
        truth.assumed_low[model] += total
        truth.assumed_high[model] += charge["high_amount"]


def audit(database: str, type_command: Type, folder: Path) -> Iterator[str]:
    """Check everything; yields what was compared. Raises `AssertionError` naming the place."""
    truth = truth_of(database)
    report = json.loads(type_command("report", "--by", "model", "--json"))
    yield from _json(truth, report)
    yield from _csv(truth, type_command("report", "--by", "model", "--format", "csv"))
    yield from _parquet(truth, type_command, folder)
    yield from _for_people(truth, type_command, folder)
    yield from _views(truth, database)
    yield from _sheets(truth, type_command)
    yield from _status(truth, type_command)
    yield from _requests(truth, type_command)
    yield from _focus(truth, type_command, folder)


def _pico(money: dict | None) -> int:
    if money is None:
        return 0
    assert Decimal(money["amount"]) * PICO == int(money["pico"]), money
    return int(money["pico"])


def _json(truth: Truth, report: dict) -> Iterator[str]:
    for line in report["lines"]:
        model = line["key"]["model"]
        for currency, money in line["cost"].items():
            assert _pico(money) == truth.cost[model, currency], (model, currency)
        assert _pico(line["assumed_low"]) == truth.assumed_low[model], model
        assert _pico(line["assumed_high"]) == truth.assumed_high[model], model
    total = report["total"]
    currencies = {currency for _, currency in truth.cost}
    assert {c: _pico(m) for c, m in total["cost"].items()} == {
        c: truth.total(c) for c in currencies
    }
    assert _pico(total["in_doubt_low"]) == truth.doubt_low
    assert _pico(total["in_doubt_high"]) == truth.doubt_high
    assert _pico(total["maybe_billed_high"]) == truth.refused_high
    assert sum(each["charges"] for each in report["unpriced"]) == truth.unpriced.total()
    assert _pico(report["adjusted"]["cost"]["USD"]) == truth.adjusted
    yield f"JSON: {len(report['lines'])} models, {len(currencies)} currencies"


def _csv(truth: Truth, text: bytes) -> Iterator[str]:
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    for row in (row for row in rows if row["entry"] == "charges"):
        for name in (n for n in row if f"{n[:-4]}_pico_usd" in row and row[n]):
            assert Decimal(row[name]) * PICO == int(row[name[:-4] + "_pico_usd"]), (name, row)
        assert int(row["cost_pico_usd"] or 0) == truth.cost[row["model"], "USD"], row
        assert int(row["assumed_high_pico_usd"]) == truth.assumed_high[row["model"]], row
    yield f"CSV: {len(rows)} rows"


def _parquet(truth: Truth, type_command: Type, folder: Path) -> Iterator[str]:
    path = folder / "report.parquet"
    type_command("report", "--by", "model", "--format", "parquet", "-o", path, "--force")
    rows = [row for row in pq.read_table(path).to_pylist() if row["entry"] == "charges"]
    for row in rows:
        assert (row["cost_usd"] or 0) * PICO == truth.cost[row["model"], "USD"], row
        assert row["assumed_high_usd"] * PICO == truth.assumed_high[row["model"]], row
    yield f"Parquet: {len(rows)} rows"


_MONEY = re.compile(r"(-?)\$([0-9,]+)(\.[0-9]+)?")


def _is_about(text: str, pico: int) -> bool:
    """Whether an amount as printed is `pico`, but for half of its last digit."""
    sign, whole, rest = _MONEY.search(text).groups()
    printed = Decimal(f"{sign}{whole.replace(',', '')}{rest or ''}")
    return abs(printed * PICO - pico) * 2 <= Decimal(PICO).scaleb(printed.as_tuple().exponent)


def _for_people(truth: Truth, type_command: Type, folder: Path) -> Iterator[str]:
    path = folder / "report.html"
    type_command("report", "--by", "model", "--format", "html", "-o", path, "--force")
    html = path.read_text(encoding="utf-8")
    tiles = dict(re.findall(r'<h2>([^<]+)</h2><p class="value">([^<]+)</p>', html))
    assert _is_about(tiles["Cost"], truth.total("USD")), tiles
    low, high = tiles["Assumed"].split(" to ")
    assert _is_about(low, truth.assumed_low.total()), tiles
    assert _is_about(high, truth.assumed_high.total()), tiles
    assert _is_about(tiles["In doubt"].split(" to ")[1], truth.doubt_high), tiles
    text = type_command("report", "--by", "model").decode()
    for model, currency in truth.cost:
        if currency == "USD":
            (line,) = [line for line in text.splitlines() if line.startswith(f"{model} ")]
            assert _is_about(line, truth.cost[model, "USD"]), line
            assert model in html
    yield "table and HTML: to the digits that they print"


def _views(truth: Truth, database: str) -> Iterator[str]:
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)

    def one(query: str) -> tuple:
        return db.execute(query).fetchone()

    usd, high = truth.total("USD"), truth.assumed_high.total()
    low = truth.assumed_low.total()
    assert one("SELECT sum(amount_pico_usd) FROM v_charges") == (usd,)
    daily = one("SELECT sum(cost_pico_usd), sum(assumed_low_pico_usd),"
                " sum(assumed_high_pico_usd) FROM v_cost_by_model_day")  # fmt: skip
    assert daily == (usd, low, high)
    doubt = one("SELECT sum(in_doubt_low_pico_usd), sum(in_doubt_high_pico_usd)"
                " FROM v_cost_by_model_day")  # fmt: skip
    assert doubt == (truth.doubt_low, truth.doubt_high + truth.refused_high)
    answered = one("SELECT sum(cost_pico_usd), sum(cost_high_pico_usd) FROM v_answers_all")
    assert answered == (usd, usd + high - low), answered
    attempts = one("SELECT sum(cost_low_pico_usd), sum(cost_high_pico_usd) FROM v_attempts"
                   " WHERE state NOT IN ('answered', 'late')")  # fmt: skip
    assert attempts == (truth.doubt_low, truth.doubt_high + truth.refused_high)
    db.close()
    yield "views: v_charges, v_cost_by_model_day, v_answers_all, v_attempts"


def _sheets(truth: Truth, type_command: Type) -> Iterator[str]:
    rows = json.loads(type_command("report", "--view", "costs", "--json"))["rows"]
    for currency in {currency for _, currency in truth.cost}:
        mine = [row for row in rows if row["currency"] == currency]
        assert sum(_pico(row["cost"]) for row in mine) == truth.total(currency), currency
    above = truth.assumed_high.total() - truth.assumed_low.total()
    at_most = sum(_pico(row["cost_at_most"]) for row in rows)
    assert at_most == sum(truth.cost.values()) + above
    yield "report --view costs"


def _status(truth: Truth, type_command: Type) -> Iterator[str]:
    runs = json.loads(type_command("status", "--json"))["runs"]
    usd = sum(_pico(run["cost"].get("USD")) for run in runs)
    assert usd == truth.total("USD")
    assert sum(_pico(run["assumed_high"]) for run in runs) == truth.assumed_high.total()
    assert sum(_pico(run["in_doubt_high"]) for run in runs) == truth.doubt_high
    yield f"status: {len(runs)} runs"


def _requests(truth: Truth, type_command: Type) -> Iterator[str]:
    """One charge of each kind there is, by the uid of its attempt."""
    kinds = {(c["status"], c["reason"], c["currency"]): c for c in truth.charges}
    for charge in kinds.values():
        uid = charge["attempt_uid"]
        said = json.loads(type_command("show", uid, "--json"))["request"]
        (attempt,) = [each for each in said["attempts"] if each["uid"] == uid]
        (line,) = [each for each in attempt["lines"] if each["line"] == charge["line"]]
        assert (line["status"], line["reason"]) == (charge["status"], charge["reason"])
        assert _pico(line["total"]) == (charge["total_amount"] or 0), line
        if charge["status"] == "assumed":
            assert _pico(line["at_most"]) == charge["high_amount"], line
        for meter in line["meters"]:
            assert _pico(meter["amount"]) == (charge[f"{meter['name']}_amount"] or 0), line
    yield f"show: {len(kinds)} kinds of charges"


def _focus(truth: Truth, type_command: Type, folder: Path) -> Iterator[str]:
    above = truth.assumed_high.total() - truth.assumed_low.total()
    for grain in ("request", "day"):
        path = folder / f"{grain}.csv"
        type_command(
            "report", "--format", "focus", "--focus-grain", grain, "-o", path, "--force"
        )
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        sums: Counter = Counter()
        for row in rows:
            billed = Decimal(row["BilledCost"])
            beside = row["x_CostStatus"] == "recorded"
            category = "Adjustment" if beside else row["ChargeCategory"]
            sums[category, row["BillingCurrency"]] += billed * PICO
            sums["above"] += Decimal(row["x_AssumedAbove"] or 0) * PICO
            if row["ChargeCategory"] == "Usage" and row["ContractedUnitPrice"]:
                price = Decimal(row["ContractedUnitPrice"]) * Decimal(row["PricingQuantity"])
                assert price == billed == Decimal(row["EffectiveCost"]), row
        for currency in {currency for _, currency in truth.cost}:
            assert sums["Usage", currency] == truth.total(currency), (grain, currency)
        assert sums["Adjustment", "USD"] + sums["Credit", "USD"] == truth.adjusted
        assert sums["above"] == above
        parquet = folder / f"{grain}.parquet"
        type_command(
            "report", "--format", "focus", "--focus-grain", grain, "-o", parquet, "--force"
        )
        stored = pq.read_table(parquet, columns=["BilledCost"]).column(0).to_pylist()
        assert stored == [Decimal(row["BilledCost"]) for row in rows]
        yield f"FOCUS by {grain}: {len(rows)} rows, as CSV and Parquet"


def main() -> None:
    """Audit the ledger that is named."""
    database, *options = sys.argv[1:]

    def typed(*words: object) -> bytes:
        command = [sys.executable, "-m", "batcher", *map(str, words), "-d", database, *options]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    with tempfile.TemporaryDirectory() as folder, localcontext(prec=60):
        for sentence in audit(database, typed, Path(folder)):
            print(sentence)  # noqa: T201 - a script tells what it did


if __name__ == "__main__":
    main()
