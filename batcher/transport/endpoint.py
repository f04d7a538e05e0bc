"""Where requests go and how: an endpoint, and the seam of the lanes that reach it."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from batcher.errors import ConfigurationError
from batcher.messages.failure import Verdict
from batcher.messages.request import Attempt, Outcome, SeenBatch, StreamMode, Submitted

_OK, _TIMED_OUT, _SERVER_ERROR, _OVERLOADED = 200, 408, 500, 529
PROVIDER_HOST: Final = (
    "api.anthropic.com"  # which documents that refused requests are not billed
)


class Auth(StrEnum):
    """How the key travels."""

    X_API_KEY = "x-api-key"
    BEARER = "bearer"
    SIGV4 = "sigv4"  # no key travels: each request is signed with credentials of AWS
    NONE = "none"


class Secret:
    """A key that never shows itself: `repr`, `str` and formatting give a mask."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the one header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret(…{self._value[-4:] if len(self._value) >= 20 else ''})"

    __str__ = __repr__


SIMULATOR_KEY: Final = Secret("simulator")  # any would do: it hides nothing
SHORTEST_HIDDEN: Final = 8  # characters: a shorter key cannot be told from other words


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy without its credentials.

    `authorization` is the header's value, if any, `password` what is secret in it.
    """

    url: str
    authorization: Secret | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How an address is reached, and why so: `proxy` is `None` for the direct way."""

    proxy: Proxy | None = None
    why: str = ""

    @property
    def words(self) -> str:
        """For people: the proxy without its password, and what named it."""
        way = f"through proxy {self.proxy.url}" if self.proxy else "directly, without a proxy"
        return f"{way} ({self.why})" if self.why else way


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraHeader:
    """A header that every request to an endpoint carries; a secret one is masked like a key."""

    name: str
    value: Secret
    secret: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """Whose identity is exchanged for a key, under which rule; the official client's terms."""

    token_file: Path
    rule_id: str
    organization_id: str
    service_account_id: str | None = None
    workspace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server and how to speak with it.

    `base_url` may end in `/`, `/v1` or `/v1/messages`. `dialect` names the pre-flight rules
    that hold there. `attempt_uid_header` is `None` when the
    server must not see our uid. `price_list` is `None` for a server without prices.
    `errors_may_be_billed` is what was said of refused attempts, `None`: nothing; see
    `may_bill`. `verdicts` are the
    endpoint's own meanings of a status. `stream` says which answers are streamed. Times are
    seconds: `request_timeout_seconds` for an answer that comes whole; a stream may take
    `stream_timeout_seconds` in all and be silent for `stream_idle_seconds`. `proxy` is what was
    set, `route` what follows from it and the environment. `ca_file` is a bundle or a folder of
    authorities, added to the system's. `auth_header` is another header for the key. `admin_url`
    and `admin_key_file` are for the provider's reports alone. Requests are signed for
    `aws_service` in `aws_region`, `None`: that of the profile. `notes` are sentences about what
    came from where. `batches`: it has Message Batches.
    """

    name: str
    base_url: str
    dialect: str = "anthropic"
    auth: Auth = Auth.X_API_KEY
    api_key_env: str | None = None
    api_key_file: str | None = None
    api_key_command: tuple[str, ...] = ()
    api_key_ttl_seconds: float = 300
    federation: Federation | None = None
    aws_service: str | None = None
    aws_region: str | None = None
    anthropic_version: str | None = "2023-06-01"
    betas: tuple[str, ...] = ()
    attempt_uid_header: str | None = "x-client-request-id"
    price_list: str | None = None
    simulated: bool = False
    errors_may_be_billed: bool | None = None
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    stream: StreamMode = StreamMode.AUTO
    request_timeout_seconds: float = 600
    stream_timeout_seconds: float = 3600
    stream_idle_seconds: float = 300
    connect_timeout_seconds: float = 10
    allow_insecure_http: bool = False
    proxy: str = "environment"
    route: Route = field(default_factory=Route)
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    auth_header: str | None = None
    headers: tuple[ExtraHeader, ...] = ()
    admin_url: str | None = None
    admin_key_file: str | None = None
    notes: tuple[str, ...] = ()
    batches: bool = False

    def may_bill(self, status: int | None) -> bool:
        """Whether an attempt that was refused with this HTTP status may be on the bill.

        Where nobody said so: an error inside a 200 may be, since the work had begun; so may
        what a gateway gave up (408, 5xx but 529), which its provider may have done. At the
        provider's own host refusals are free.
        """
        if self.errors_may_be_billed is not None:
            return self.errors_may_be_billed
        if self.simulated or status is None:
            return False
        if status == _OK:
            return True
        gave_up = status == _TIMED_OUT or (status >= _SERVER_ERROR and status != _OVERLOADED)
        return gave_up and urlsplit(self.base_url).hostname != PROVIDER_HOST

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is worth saying of it before a run: notes, and a proxy with what named it."""
        if self.route.proxy is None:
            return self.notes
        return (*self.notes, f"{self.name} is reached {self.route.words}")

    @property
    def shown_url(self) -> str:
        """The address as it may be shown and recorded."""
        return shown_url(self.base_url)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The address in all forms that lead to the same place: a run may have recorded any."""
        address, mark, query = self.shown_url.partition("?")
        root = api_root(address).removesuffix("/v1")
        ends = ("", "/", "/v1", "/v1/", "/messages", "/v1/messages")
        return (self.shown_url, *(f"{root}{end}{mark}{query}" for end in ends))

    @property
    def messages_url(self) -> str:
        """Where a Messages body is posted, whether the address ends in `/v1` or not."""
        return self._below_root("messages")

    @property
    def models_url(self) -> str:
        """Where the server lists its models."""
        return self._below_root("models")

    @property
    def count_url(self) -> str:
        """Where a prompt's tokens are counted."""
        return self._below_root("messages/count_tokens")

    @property
    def batches_url(self) -> str:
        """Where Message Batches are made and listed."""
        return self._below_root("messages/batches")

    def batch_url(self, batch_id: str, action: str = "") -> str:
        """Where one batch is looked at, or what is below it."""
        return self._below_root(f"messages/batches/{batch_id}{action}")

    @property
    def token_url(self) -> str:
        """Where the identity of a workload is exchanged for a key."""
        return self._below_root("oauth/token")

    def report_url(self, name: str) -> str:
        """Where a report of the Admin API is read."""
        return self._below_root(f"organizations/{name}")

    def _below_root(self, path: str) -> str:
        """A path of the API; a query of the base URL (`?api-version=…`) stays at the end."""
        address, mark, query = self.base_url.partition("?")
        return f"{api_root(address)}/{path}{mark}{query}"


_PLAIN_PARAMETER: Final = "api-version"


def api_root(base_url: str) -> str:
    """The URL up to and including `/v1`, from any of the spellings people use."""
    url = base_url.rstrip("/").removesuffix("/messages")
    return url if url.endswith("/v1") else f"{url}/v1"


def shown_url(url: str) -> str:
    """The URL without user and password, and without the values of its query."""
    address, mark, query = url.partition("?")
    scheme, slashes, rest = address.rpartition("://")
    values = "&".join(map(_shown_parameter, query.split("&")))
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}{mark}{values if mark else ''}"


def _shown_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return parameter if name == _PLAIN_PARAMETER else f"{name}=***" if equals else "***"


def hidden_parts(endpoint: Endpoint) -> tuple[Secret, ...]:
    """What is secret besides the key: headers, values in the address, a proxy's password."""
    query = parse_qsl(urlsplit(endpoint.base_url).query)
    values = [Secret(value) for name, value in query if name != _PLAIN_PARAMETER]
    values += [header.value for header in endpoint.headers if header.secret]
    proxy = endpoint.route.proxy
    if proxy is not None:
        values += filter(None, (proxy.authorization, proxy.password))
    return tuple(values)


def quota_fingerprint(endpoint: Endpoint, key: Secret | None, salt: str) -> str:
    """Text that two processes share when they draw on one quota: same address, same key.

    A keyed hash of 16 bytes, so that it tells nothing of the key; `salt` is the database's own
    name, so that it is another text in every database.
    """
    secret = key.reveal() if key else ""
    hashed = blake2b(digest_size=16, key=salt.encode()[:64], person=b"batcher quota")
    hashed.update(f"{api_root(endpoint.base_url)}\0{secret}".encode())
    return hashed.hexdigest()


def check_route(endpoint: Endpoint) -> None:
    """Raise `ConfigurationError` where a proxy would see a key: on the way to plain http."""
    plain = urlsplit(endpoint.base_url).scheme == "http"
    keyed = endpoint.auth is not Auth.NONE or any(header.secret for header in endpoint.headers)
    if endpoint.route.proxy and plain and keyed:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: {endpoint.shown_url} is plain http, so the proxy "
            f"{endpoint.route.proxy.url} ({endpoint.route.why}) would see the key; use https, "
            'or set proxy = "none" for this endpoint'
        )


def check_url(endpoint: Endpoint) -> None:
    """Raise `ConfigurationError` unless the base URL is https, or http to this machine."""
    try:
        parts = urlsplit(endpoint.base_url)
        host = parts.hostname
        _ = parts.port, (host or "").encode("idna")  # as it is asked for
    except ValueError:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: base_url is no URL: its host or port cannot be read;"
            " write it like https://host:443"
        ) from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: base_url {endpoint.shown_url!r} must start with"
            " https://, or http:// for this machine"
        )
    if parts.username or parts.password:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: base_url holds a user or password; keys belong in the "
            "environment or a 0600 file"
        )
    if parts.fragment:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: base_url ends in a fragment (#…), which no server "
            "sees; remove it"
        )
    if parts.scheme == "http" and not (endpoint.allow_insecure_http or is_loopback(host)):
        raise ConfigurationError(
            f"endpoint {endpoint.name}: {endpoint.shown_url} would send the key and the"
            " prompts unencrypted; use https, or set allow_insecure_http = true for this"
            " endpoint"
        )


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, judged without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_near(host: str) -> bool:
    """Whether `host` is this machine or an address of a private range, written as a number."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return is_loopback(host)


def no_batches(endpoint: Endpoint) -> str:
    """Why nothing travels in batches at an endpoint that has none."""
    name = endpoint.name
    return (
        f"endpoint {name} has no Message Batches: send the rows with --lane live, or say"
        f" batches = true under [endpoints.{name}] if it has"
    )


class Lane(Protocol):
    """Carries attempts whose intent is already durable, and decides nothing.

    Whether, when and how often something is sent is the pipeline's business.
    """

    async def send(self, attempt: Attempt) -> Outcome | Submitted:
        """Exactly one outcome for `attempt`. A failed attempt is an outcome, not an exception.

        `Submitted`: the outcome comes later, by another way, and the attempt stays open until
        then. Cancelling it means the attempt's fate is unknown, unless the lane knows it and
        gives it even so; what is raised ends the run.
        """

    def drain(self) -> None:
        """Nothing more is to leave: what waits here to leave together with others does not."""

    async def close(self) -> None:
        """Let go of all connections."""


class Journal(Protocol):
    """What is written down about creates; each is durable when it returns."""

    async def intended(self, attempts: Sequence[Attempt]) -> int:
        """These are about to leave in one batch; its number."""

    async def made(self, number: int, seen: SeenBatch) -> None:
        """The batch of that number exists."""

    async def not_made(self, number: int) -> None:
        """It does not: its attempts have not left."""

    async def lost(self, number: int) -> None:
        """Nobody knows: returns when the server was asked once what it has."""
