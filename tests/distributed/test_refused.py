"""What is refused before Ray is even imported."""

import pytest

from tests.e2e.inputs import rows, write_jsonl


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--on", "ray"), 78, "--on ray needs a PostgreSQL database"),
        (("--on", "ray", "--join"), 2, "leave out --join"),
        (("--on", "ray", "--processes", "2"), 2, "leave out --join"),
        (("--workers", "2"), 2, "--workers is for --on ray"),
        (("--on", "ray", "--workers", "0"), 78, "workers"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(folder, nobody, options, code, words):
    write_jsonl(folder.path / "rows.jsonl", rows(1))
    where = ("--endpoint", "simulator", "--base-url", nobody.url)
    refused = folder.batcher("run", "rows.jsonl", *where, *options)
    assert (refused.code, words in refused.err) == (code, True), refused
    assert not nobody.was_called()


def test_the_port_of_ray_clients_is_refused(folder, nobody, postgres_url):
    write_jsonl(folder.path / "rows.jsonl", rows(1))
    where = ("--endpoint", "simulator", "--base-url", nobody.url, "--database", postgres_url)
    command = ("run", "rows.jsonl", *where, "--on", "ray")
    refused = folder.batcher(*command, RAY_ADDRESS="ray://127.0.0.1:10001")
    assert (refused.code, "ray job submit" in refused.err) == (78, True), refused
