"""Keys that change while a run is on: no row is lost; a key that is refused stops the run."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

import pytest

from batcher.messages.failure import Verdict
from batcher.messages.request import Answered, NotSent, Rejected
from batcher.transport.endpoint import Auth, Endpoint, Federation
from batcher.transport.live.live_lane import LiveLane
from batcher.wiring.connecting import connect
from tests.simulator.asking import asynchronous
from tests.transport.proxies import ANSWER, listening
from tests.transport.servers import Hand, attempt


def guarded(accepted: set[str], ends=lambda: 600, refusal: int = 401):
    """A server that takes the keys in `accepted`, and gives `token-N` for an identity."""

    async def serve(seen, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
            body = await reader.readexactly(length)
            if head.startswith(b"POST /v1/oauth/token"):
                seen.tokens = getattr(seen, "tokens", [])
                seen.tokens.append((head, json.loads(body)))
                accepted.add(f"token-{len(seen.tokens)}")
                given = {"access_token": f"token-{len(seen.tokens)}", "expires_in": ends()}
                status, answer = 200, json.dumps(given).encode()
            else:
                seen.heads.append(head)
                known = any(key.encode() in head for key in accepted)
                status, answer = (200, ANSWER) if known else (refusal, b"{}")
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(answer), answer)
            )
            await writer.drain()

    return serve


@asynccontextmanager
async def lane(accepted, clock=None, ends=lambda: 600, refusal=401, **fields):
    clock = clock or Hand()
    async with listening(guarded(accepted, ends, refusal)) as server:
        fields.setdefault("auth", Auth.BEARER)
        endpoint = Endpoint(name="e", base_url=f"http://127.0.0.1:{server.port}", **fields)
        made = LiveLane(connect(endpoint, None, clock), endpoint, clock)
        try:
            yield made, server
        finally:
            await made.close()


def written(path, key: str):
    """The key's file as Kubernetes replaces it: another file takes its name."""
    new = path.with_suffix(".new")
    new.write_text(key)
    new.chmod(0o600)
    new.replace(path)
    return str(path)


@asynchronous
async def test_a_key_file_is_read_again_when_it_has_changed(tmp_path):
    clock, accepted = Hand(), {"key-of-monday"}
    name = written(tmp_path / "key", "key-of-monday")
    async with lane(accepted, clock, api_key_file=name) as (made, server):
        assert isinstance(await made.send(attempt()), Answered)
        written(tmp_path / "key", "key-of-tuesday")
        accepted.add("key-of-tuesday")
        clock.move(2)
        assert isinstance(await made.send(attempt()), Answered)
    assert b"key-of-tuesday" in server.heads[-1]


@asynchronous
async def test_a_gateway_that_refuses_an_expired_token_with_403_gets_the_new_one(tmp_path):
    name = written(tmp_path / "key", "token-of-monday")
    async with lane({"token-of-tuesday"}, refusal=403, api_key_file=name) as (made, _):
        met = asyncio.create_task(made.send(attempt()))
        await asyncio.sleep(0)
        written(tmp_path / "key", "token-of-tuesday")
        assert (await met).failure.error_type == "key_replaced"
        assert isinstance(await made.send(attempt()), Answered)


@asynchronous
async def test_a_key_that_is_refused_and_still_in_force_stops_the_run(tmp_path):
    accepted = {"key-of-monday"}
    name = written(tmp_path / "key", "key-of-monday")
    async with lane(accepted, api_key_file=name) as (made, _):
        assert isinstance(await made.send(attempt()), Answered)
        accepted.clear()
        stopped = await made.send(attempt())
        assert stopped.failure.verdict is Verdict.STOP_ACCESS


@asynchronous
async def test_rows_that_met_the_rotation_go_again(tmp_path):
    accepted = {"key-of-monday"}
    name = written(tmp_path / "key", "key-of-monday")
    async with lane(accepted, api_key_file=name) as (made, _):
        assert isinstance(await made.send(attempt()), Answered)
        accepted.clear()
        accepted.add("key-of-tuesday")
        written(tmp_path / "key", "key-of-tuesday")
        outcomes = await asyncio.gather(*(made.send(attempt()) for _ in range(20)))
        assert {type(outcome) for outcome in outcomes} <= {Rejected, Answered}
        for outcome in outcomes:
            if isinstance(outcome, Rejected):
                assert outcome.failure.error_type == "key_replaced"
                assert outcome.failure.verdict is Verdict.RETRY_ROW
        assert isinstance(await made.send(attempt()), Answered)


@asynchronous
async def test_a_new_key_that_is_refused_too_stops_the_run(tmp_path):
    name = written(tmp_path / "key", "key-one")
    async with lane(set(), api_key_file=name) as (made, _):
        written(tmp_path / "key", "key-two")
        first = await made.send(attempt())
        again = await made.send(attempt())
        assert Verdict.STOP_ACCESS in {first.failure.verdict, again.failure.verdict}


def program(tmp_path, source: str) -> tuple[str, ...]:
    path = tmp_path / "give_key.py"
    path.write_text(source)
    return sys.executable, str(path)


COUNTING = """
import pathlib
path = pathlib.Path(__file__).with_suffix(".count")
number = int(path.read_text()) + 1 if path.exists() else 1
path.write_text(str(number))
print(f"key-number-{number}")
"""


@asynchronous
async def test_a_command_gives_the_key_and_is_asked_again_after_its_time(tmp_path):
    clock = Hand()
    accepted = {"key-number-1", "key-number-2"}
    fields = {"api_key_command": program(tmp_path, COUNTING), "api_key_ttl_seconds": 60}
    async with lane(accepted, clock, **fields) as (made, server):
        outcomes = await asyncio.gather(*(made.send(attempt()) for _ in range(10)))
        assert {type(outcome) for outcome in outcomes} == {Answered}
        assert all(b"Bearer key-number-1" in head for head in server.heads)
        clock.move(61)
        await made.send(attempt())
        assert b"Bearer key-number-2" in server.heads[-1]


@asynchronous
@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import sys; print('sk-secret-in-stderr', file=sys.stderr); sys.exit(3)",
            "ended with 3",
        ),
        ("print('x' * 20_000)", "printed 20,001 bytes"),
        ("print('two words')", "characters that no key has"),
        ("", "is empty"),
    ],
)
async def test_a_command_that_fails_stops_the_run_and_its_words_are_not_repeated(
    source, words, tmp_path
):
    async with lane({"k"}, api_key_command=program(tmp_path, source)) as (made, server):
        outcome = await made.send(attempt())
    assert isinstance(outcome, NotSent)
    assert outcome.failure.verdict is Verdict.STOP_ACCESS
    assert words in outcome.failure.message
    assert "sk-secret" not in outcome.failure.message
    assert not server.heads


@asynchronous
async def test_a_command_that_is_not_there_is_named(tmp_path):
    async with lane({"k"}, api_key_command=(str(tmp_path / "nobody"),)) as (made, _):
        outcome = await made.send(attempt())
    assert "api_key_command cannot be run" in outcome.failure.message


@asynchronous
async def test_an_identity_is_exchanged_once_and_renewed_ahead_of_its_end(tmp_path):
    (tmp_path / "identity").write_text("a-jwt\n")
    federation = Federation(
        token_file=tmp_path / "identity", rule_id="fdrl_1", organization_id="org-1",
        workspace_id="wrkspc_1",
    )  # fmt: skip
    clock = Hand()
    async with lane(set(), clock, federation=federation) as (made, server):
        outcomes = await asyncio.gather(*(made.send(attempt()) for _ in range(20)))
        assert {type(outcome) for outcome in outcomes} == {Answered}
        (head, body), *more = server.tokens
        assert not more
        assert b"anthropic-beta: oidc-federation-2026-04-01" in head
        assert body == {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": "a-jwt",
            "federation_rule_id": "fdrl_1",
            "organization_id": "org-1",
            "workspace_id": "wrkspc_1",
        }
        clock.move(490)
        await made.send(attempt())
        assert len(server.tokens) == 2


@asynchronous
async def test_a_day_with_tokens_of_ten_minutes_loses_no_row(tmp_path):
    (tmp_path / "identity").write_text("a-jwt")
    federation = Federation(
        token_file=tmp_path / "identity", rule_id="fdrl_1", organization_id="org-1"
    )
    clock = Hand()
    async with lane(set(), clock, federation=federation) as (made, server):
        for _ in range(24 * 60):
            clock.move(60)
            assert isinstance(await made.send(attempt()), Answered)
        assert 24 * 6 <= len(server.tokens) <= 24 * 10


@pytest.fixture
def of_aws(monkeypatch, tmp_path):
    """Nothing of AWS but what a test says."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return {"auth": Auth.SIGV4, "aws_service": "bedrock-mantle", "aws_region": "eu-west-1"}


def credentials_of_aws(tmp_path, name: str) -> None:
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {name}\naws_secret_access_key = secret-of-{name}\n"
    )


def with_status(accepted: set[str], refusal: int = 403):
    """A server that takes requests signed by `accepted`, and refuses others as AWS does."""

    async def serve(seen, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
            await reader.readexactly(length)
            seen.heads.append(head)
            known = any(f"Credential={name}/".encode() in head for name in accepted)
            status, answer = (200, ANSWER) if known else (refusal, b'{"message":"expired"}')
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(answer), answer)
            )
            await writer.drain()

    return serve


@asynccontextmanager
async def signing(accepted, fields, clock=None):
    async with listening(with_status(accepted)) as server:
        endpoint = Endpoint(name="e", base_url=f"http://127.0.0.1:{server.port}", **fields)
        clock = clock or Hand()
        made = LiveLane(connect(endpoint, None, clock), endpoint, clock)
        try:
            yield made, server
        finally:
            await made.close()


@asynchronous
async def test_credentials_of_aws_that_were_replaced_are_looked_for_again(tmp_path, of_aws):
    credentials_of_aws(tmp_path, "MONDAY")
    accepted = {"MONDAY"}
    async with signing(accepted, of_aws) as (made, server):
        assert isinstance(await made.send(attempt()), Answered)
        credentials_of_aws(tmp_path, "TUESDAY")
        accepted.clear()
        accepted.add("TUESDAY")
        met = await made.send(attempt())
        assert (met.failure.error_type, met.failure.verdict) == (
            "key_replaced", Verdict.RETRY_ROW,
        )  # fmt: skip
        assert isinstance(await made.send(attempt()), Answered)
        accepted.clear()
        stopped = await made.send(attempt())
        assert stopped.failure.verdict is Verdict.STOP_ACCESS
    assert all(b"secret-of" not in head for head in server.heads)


@asynchronous
async def test_without_credentials_of_aws_nothing_is_sent(of_aws):
    async with signing(set(), of_aws) as (made, server):
        outcome = await made.send(attempt())
    assert isinstance(outcome, NotSent)
    assert outcome.failure.verdict is Verdict.STOP_ACCESS
    assert "no credentials of AWS were found" in outcome.failure.message
    assert server.heads == []


@asynchronous
async def test_what_a_program_of_aws_complains_about_is_not_repeated(tmp_path, of_aws):
    argv = " ".join(program(tmp_path, "import sys; sys.exit('the secret is hunter2')"))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {argv}\n")
    async with signing(set(), of_aws) as (made, _):
        outcome = await made.send(attempt())
    assert outcome.failure.verdict is Verdict.STOP_ACCESS
    assert "hunter2" not in outcome.failure.message


@asynchronous
async def test_credentials_of_aws_that_end_soon_are_renewed(tmp_path, of_aws):
    """By botocore, which takes the last ten minutes of credentials for their end."""
    source = (
        "import datetime, json, pathlib\n"
        f"path = pathlib.Path({str(tmp_path / 'times')!r})\n"
        "times = len(path.read_text()) if path.exists() else 0\n"
        "path.write_text('x' * (times + 1))\n"
        "now = datetime.datetime.now(datetime.UTC)\n"
        "ends = now + datetime.timedelta(minutes=9 if times == 0 else 60)\n"
        "given = {'Version': 1, 'AccessKeyId': f'KEY{times}', 'SecretAccessKey': 's' * 40}\n"
        "given |= {'SessionToken': 't' * 40, 'Expiration': ends.isoformat()}\n"
        "print(json.dumps(given))\n"
    )
    argv = " ".join(program(tmp_path, source))
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {argv}\n")
    async with signing({"KEY0", "KEY1"}, of_aws, clock := Hand()) as (made, server):
        for _ in range(3):
            assert isinstance(await made.send(attempt()), Answered)
            clock.move(2)
    keys = [head.split(b"Credential=")[1].split(b"/")[0] for head in server.heads]
    assert keys == [b"KEY0", b"KEY1", b"KEY1"] or keys == [b"KEY1"] * 3
