"""Keys that change while a run is on: rotated files, commands, exchanged identities."""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from batcher.clock import Clock
from batcher.errors import AccessRefused
from batcher.messages.failure import Verdict
from batcher.transport.endpoint import Endpoint, Federation, Secret
from batcher.transport.live.connections import SendError

_LOOK_SECONDS: Final = 1.0  # between two looks at a key's file
_COMMAND_SECONDS: Final = 30.0
_COMMAND_BYTES: Final = 16 * 2**10
_AHEAD_SECONDS: Final = 120.0  # an exchanged key is renewed that long before its end
# What AWS wants signed, and nothing that something on the way may change.
_SIGNED: Final = ("content-type", "x-amz-", "anthropic-")
_SIGNATURE: Final = ("authorization", "x-amz-date", "x-amz-security-token")
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"

# Posts a JSON body to where identities are exchanged; gives status and body.
Exchange = Callable[[bytes], Awaitable[tuple[int, bytes]]]


class KeySource(Protocol):
    """Where a key comes from that may change."""

    async def key(self) -> Secret:
        """The key in force; cheap while nothing is due. Raises `SendError`: there is none."""

    def forget(self) -> None:
        """The server refused the key: the next `key` asks anew."""


class KeyFile:
    """A file that somebody may replace: it is read again when it has changed."""

    def __init__(self, path: Path, read: Callable[[], Secret], clock: Clock) -> None:
        self._path = path
        self._read = read
        self._clock = clock
        self._known: tuple[tuple[int, ...], Secret] | None = None
        self._due = 0.0

    async def key(self) -> Secret:
        """See `KeySource.key`; a file that is away for a moment changes nothing."""
        now = self._clock.monotonic()
        if self._known is not None and now < self._due:
            return self._known[1]
        self._due = now + _LOOK_SECONDS
        try:
            seen = self._look()
            if self._known is None or self._known[0] != seen:
                self._known = seen, self._read()
        except (AccessRefused, OSError) as exc:
            if self._known is None:
                raise _no_key(str(exc)) from exc
        return self._known[1]

    def forget(self) -> None:
        """See `KeySource.forget`."""
        self._due = 0.0

    def _look(self) -> tuple[int, ...]:
        status = self._path.stat()
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


class KeyCommand:
    """A program that prints a key; run when a request is about to be sent, one at a time."""

    def __init__(
        self,
        argv: Sequence[str],
        lifetime_seconds: float,
        checked: Callable[[str], Secret],
        clock: Clock,
    ) -> None:
        self._argv = tuple(argv)
        self._lifetime = lifetime_seconds
        self._checked = checked
        self._clock = clock
        self._key: Secret | None = None
        self._ends = 0.0
        self._running = asyncio.Lock()

    async def key(self) -> Secret:
        """See `KeySource.key`."""
        async with self._running:
            if self._key is None or self._clock.monotonic() >= self._ends:
                self._key = await self._ask()
                self._ends = self._clock.monotonic() + self._lifetime
            return self._key

    def forget(self) -> None:
        """See `KeySource.forget`."""
        self._ends = 0.0

    async def _ask(self) -> Secret:
        name = Path(self._argv[0]).name
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
            )
        except OSError as exc:
            raise _no_key(f"api_key_command cannot be run: {exc}") from exc
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                said, complained = await process.communicate()
        except TimeoutError as exc:
            process.kill()
            await process.wait()
            message = f"api_key_command {name} took longer than {_COMMAND_SECONDS:g} s"
            raise _no_key(message) from exc
        if process.returncode:
            # What it complains about may hold the key itself: only its size is told.
            raise _no_key(
                f"api_key_command {name} ended with {process.returncode}"
                f" ({len(complained)} bytes on its standard error; run it by hand)"
            )
        if len(said) > _COMMAND_BYTES:
            raise _no_key(
                f"api_key_command {name} printed {len(said):,} bytes, which is no key"
            )
        try:
            return self._checked(said.decode("utf-8", "replace").strip())
        except AccessRefused as exc:
            raise _no_key(str(exc)) from exc


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float = 600.0


class ExchangedIdentity:
    """A workload's identity token, exchanged for a key of minutes and renewed before its end.

    RFC 7523, section 2.1. The key is kept in memory only.
    """

    def __init__(self, federation: Federation, exchange: Exchange, clock: Clock) -> None:
        self._federation = federation
        self._exchange = exchange
        self._clock = clock
        self._key: Secret | None = None
        self._renew_at = 0.0
        self._ends = 0.0
        self._running = asyncio.Lock()

    async def key(self) -> Secret:
        """See `KeySource.key`; one exchange, however many ask. An early one may fail."""
        async with self._running:
            now = self._clock.monotonic()
            if self._key is not None and now < self._renew_at:
                return self._key
            try:
                token = await self._ask()
            except SendError:
                if self._key is None or now >= self._ends:
                    raise
                self._renew_at = now + _LOOK_SECONDS
                return self._key
            self._key = Secret(token.access_token)
            self._ends = now + token.expires_in
            self._renew_at = self._ends - min(_AHEAD_SECONDS, token.expires_in / 2)
            return self._key

    def forget(self) -> None:
        """See `KeySource.forget`."""
        self._renew_at = self._ends = 0.0

    async def _ask(self) -> _Token:
        asked = self._federation
        try:
            identity = asked.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise _no_key(f"the identity token cannot be read: {exc}") from exc
        body = {
            "grant_type": _GRANT,
            "assertion": identity,
            "federation_rule_id": asked.rule_id,
            "organization_id": asked.organization_id,
            "service_account_id": asked.service_account_id,
            "workspace_id": asked.workspace_id,
        }
        given = {name: value for name, value in body.items() if value is not None}
        status, answer = await self._exchange(msgspec.json.encode(given))
        if status >= 500 or status == 429:
            raise SendError("identity", f"the exchange of the identity failed (HTTP {status})",
                            left=False)  # fmt: skip
        try:
            if status == 200:
                return msgspec.json.decode(answer, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        raise _no_key(
            f"the identity token was not exchanged for a key (HTTP {status}): check that the"
            " federation rule fits it, and ANTHROPIC_WORKSPACE_ID where the rule has several"
        )


class AwsCredentials:
    """What AWS takes for a key: each request is signed on its body (Signature Version 4).

    Where credentials are found and when they are renewed is botocore's business, in a thread,
    since it may ask a server. The `key` is what is secret in them, a line each.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._service = endpoint.aws_service or ""
        self._region = endpoint.aws_region
        self._clock = clock
        self._found: Any = None  # of botocore: it renews them itself
        self._frozen: Any = None
        self._due = 0.0
        self._looking = asyncio.Lock()

    async def key(self) -> Secret:
        """See `KeySource.key`; while those in force last, a renewal may fail."""
        async with self._looking:
            if self._frozen is None or self._clock.monotonic() >= self._due:
                try:
                    self._frozen = await asyncio.to_thread(self._look)
                except SendError:
                    if self._frozen is None:
                        raise
                self._due = self._clock.monotonic() + _LOOK_SECONDS
            return Secret(f"{self._frozen.secret_key}\n{self._frozen.token or ''}".strip())

    def forget(self) -> None:
        """See `KeySource.forget`: files, variables and servers are asked again."""
        self._found = self._frozen = None

    def signed(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> dict[str, str]:
        """The headers, in lower case, that make of this a request that AWS takes."""
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - an extra
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - an extra

        lower = {name.lower(): value for name, value in headers.items()}
        shown = {name: lower[name] for name in lower if name.startswith(_SIGNED)}
        request = AWSRequest(method=method, url=url, headers=shown, data=body)
        SigV4Auth(self._frozen, self._service, self._region).add_auth(request)
        return {name: request.headers[name] for name in _SIGNATURE if name in request.headers}

    def _look(self) -> Any:  # noqa: ANN401 - of botocore
        """Credentials that are in force now; in a thread."""
        from botocore import exceptions  # noqa: PLC0415 - an extra
        from botocore.session import Session  # noqa: PLC0415 - an extra

        try:
            if self._found is None:
                session = Session()
                self._region = self._region or session.get_config_variable("region")
                self._found = session.get_credentials()
            if self._found is not None and self._region:
                return self._found.get_frozen_credentials()
        except exceptions.HTTPClientError as exc:
            message = "the server that gives credentials of AWS did not answer"
            raise SendError("identity", message, left=False) from exc
        except exceptions.CredentialRetrievalError as exc:  # holds what a program said
            raise _no_key("credentials of AWS: the program that gives them failed") from exc
        except (exceptions.BotoCoreError, exceptions.ClientError) as exc:
            raise _no_key(f"credentials of AWS cannot be used: {exc}") from exc
        if self._found is None:
            raise _no_key("no credentials of AWS were found: set AWS_PROFILE, or use a token")
        raise _no_key("the region to sign for is not known: set AWS_REGION, or aws_region")


class Keys:
    """The key that requests carry, and whether one that was refused is the newest there is.

    `use` is told every key before it is sent.
    """

    def __init__(self, use: Callable[[Secret], None], source: KeySource, clock: Clock) -> None:
        self._use = use
        self._source = source
        self._clock = clock
        self._used: str | None = None
        self._changed_at = 0
        self._refused = (
            False  # the key was asked for anew after a refusal, and is not proven yet
        )

    async def renew(self) -> None:
        """Have the key in force used; to be called before each request."""
        key = await self._source.key()
        if key.reveal() != self._used:
            if self._used is not None:  # before the first one nothing was sent
                self._changed_at = self._clock.now_us()
            self._used = key.reveal()
            self._use(key)

    async def replaced(self, sent_at: int) -> bool:
        """After a refusal of what was sent then: whether another key is there by now.

        A key is asked for anew once; when the new one is refused too, the run is over.
        """
        if sent_at <= self._changed_at:
            return True  # it went with the key before
        if self._refused:
            return False
        before, self._refused = self._used, True
        self._source.forget()
        await self.renew()
        return self._used != before

    def accepted(self) -> None:
        """The server took the key."""
        self._refused = False


def _no_key(message: str) -> SendError:
    return SendError("no_key", message, left=False, verdict=Verdict.STOP_ACCESS)
