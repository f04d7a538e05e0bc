"""A job that falls back to another endpoint, as commands; two servers write one bill."""

from contextlib import suppress

import pytest

from tests.e2e.inputs import QUICK, rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count, read
from tests.e2e.processes import PIPES, finish, kill, wait_until

ROWS = 200
ENDPOINT = """
[endpoints.{name}]
base_url = "{url}"
simulated = true
anthropic_version = "2023-06-01"
price_list = "anthropic"
"""


@pytest.fixture
def servers(folder, simulate):
    """`near` fails with every third request, `far` never."""
    near = simulate("--fault", "500=0.3", "--fault", "529=0.1", "--latency-ms", "5-20")
    far = simulate("--latency-ms", "5-20")
    tables = (ENDPOINT.format(name=n, url=s.url) for n, s in (("near", near), ("far", far)))
    (folder.path / "config.toml").write_text(QUICK + "".join(tables))
    (folder.path / "job.toml").write_text(
        'inputs = ["rows.jsonl"]\nendpoint = "near"\nconcurrency = 8\n'
        'fallback = [{ endpoint = "far", model = "claude-sonnet-5-5" }]\n'
        'fallback_on_doubt = true\nfallback_after = "1s"\n[retry]\nmax_attempts = 1\n'
    )
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    return near


def is_under_way(url):
    with suppress(Exception):  # the tables are not there yet
        return count(url, "v_answers", "endpoint = 'far'") >= 5
    return False


def check(folder, url, near, ended):
    summary = ended.json
    detour = summary["fallback"]["far"]
    assert detour["rows"] > 0
    answered = read(url, "SELECT endpoint, count(*) AS n FROM v_answers GROUP BY endpoint")
    by_endpoint = {line["endpoint"]: line["n"] for line in answered}
    assert by_endpoint.keys() == {"near", "far"}
    assert sum(by_endpoint.values()) == ROWS
    report = folder.batcher(
        "report", "--by", "endpoint", "--format", "json", "--database", url
    ).json
    assert {line["key"]["endpoint"] for line in report["lines"]} == {"near", "far"}
    check_everything(folder, url, near, {"rows.jsonl": ROWS})
    return detour, by_endpoint["far"]


def test_two_bills_are_one_ledger(folder, servers):
    ended = folder.batcher("run", "job.toml", "--database", "b.db", "--json")
    assert ended.code == 0
    detour, rows_far = check(folder, str(folder.path / "b.db"), servers, ended)
    assert detour["rows"] == rows_far


def test_killed_and_typed_again(folder, servers):
    path = str(folder.path / "b.db")
    process = folder.start("run", "job.toml", "--database", path, "--json", **PIPES)
    assert wait_until(lambda: is_under_way(path), process)
    kill(process)
    ended = folder.batcher("run", "job.toml", "--database", path, "--json")
    assert ended.code == 0
    check(folder, path, servers, ended)


def test_two_processes_do_it_together(folder, servers, postgres_url):
    where = ("--database", postgres_url, "--json")
    ended = folder.batcher("run", "job.toml", *where, "--processes", "2")
    assert ended.code == 0
    check(folder, postgres_url, servers, ended)


def test_one_of_those_that_joined_is_killed(folder, servers, postgres_url):
    where = ("run", "job.toml", "--join", "--database", postgres_url, "--json")
    first = folder.start(*where, **PIPES)
    second = folder.start(*where, **PIPES)
    assert wait_until(lambda: is_under_way(postgres_url), first)
    kill(second)
    ended = finish(first)
    assert ended.code == 0
    answered = count(postgres_url, "v_answers")
    if answered < ROWS:  # it ended before the other's lease ran out
        assert folder.batcher(*where).code == 0
    check_everything(folder, postgres_url, servers, {"rows.jsonl": ROWS})


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--fallback", "sunra"], 77, "SUNRA_API_KEY"),
        (["--fallback", "nowhere"], 78, "unknown endpoint 'nowhere'"),
        (["--fallback", "near"], 78, "endpoint near is asked already"),
        (["--fallback", "far=claude-haiku-9"], 78, "name the model as it is called there"),
        (["--fallback", "free", "--max-cost", "5"], 78, "endpoint free, which the run"),
        (["--fallback", "old"], 78, "it is known to refuse rows like the first one"),
    ],
)
def test_what_would_not_do_is_said_before_anything_is_sent(folder, servers, more, code, words):
    config = folder.path / "config.toml"
    config.write_text(
        config.read_text()
        + '[endpoints.free]\nbase_url = "http://127.0.0.1:9"\nauth = "none"\n'
        + '[endpoints.old]\nbase_url = "http://127.0.0.1:9"\nauth = "none"\n'
        'anthropic_version = "2026-10-21"\n'
    )
    write_jsonl(folder.path / "rows.jsonl", [*rows(1)])
    job = folder.path / "job.toml"
    job.write_text(job.read_text() + "[parameters]\ntemperature = 0.5\n")
    ended = folder.batcher("run", "job.toml", "--database", "b.db", *more)
    assert (ended.code, words in ended.err) == (code, True), ended.err
    assert servers.bill() == []


def test_a_config_toml_names_nobody_to_fall_back_to(folder, servers):
    config = folder.path / "config.toml"
    config.write_text('fallback = ["far"]\n' + config.read_text())
    ended = folder.batcher("run", "job.toml", "--database", "b.db")
    assert (ended.code, "fallback" in ended.err) == (78, True)


def test_the_start_names_the_host_and_the_ceiling_is_the_dearest(folder, servers):
    write_jsonl(folder.path / "rows.jsonl", rows(3))
    dear = ("--fallback", "far=claude-opus-4-8")
    plain = folder.batcher("run", "job.toml", "--database", "b.db", "--dry-run", "--json").json
    dearest = folder.batcher(
        "run", "job.toml", "--database", "b.db", "--dry-run", "--json", *dear
    ).json
    assert float(dearest["cost_high_usd"]) > float(plain["cost_high_usd"])
    said = folder.batcher("run", "job.toml", "--database", "b.db", *dear).err
    assert (
        "rows that endpoint near does not answer go to endpoint far at 127.0.0.1, which is"
        " asked for claude-opus-4-8" in said
    )
