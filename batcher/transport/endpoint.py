"""Where requests go: a base URL with its dialect, key and price list."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from urllib.parse import urlsplit

from batcher.errors import ConfigurationError
from batcher.messages.failure import Verdict
from batcher.messages.stream_mode import StreamMode


class Auth(StrEnum):
    """How the key travels."""

    X_API_KEY = "x-api-key"
    BEARER = "bearer"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server and how to speak with it.

    `base_url` may end in `/`, `/v1` or `/v1/messages`. `dialect` names the pre-flight rules
    that hold there. `attempt_uid_header` is `None` when the
    server must not see our uid. `price_list` is `None` for a server without prices.
    `errors_may_be_billed` widens the cost interval of refused attempts. `verdicts` are the
    endpoint's own meanings of a status. `stream` says which answers are streamed. Times are
    seconds: `request_timeout_seconds` for an answer that comes whole; a stream may take
    `stream_timeout_seconds` in all and be silent for `stream_idle_seconds`.
    """

    name: str
    base_url: str
    dialect: str = "anthropic"
    auth: Auth = Auth.X_API_KEY
    api_key_env: str | None = None
    api_key_file: str | None = None
    anthropic_version: str | None = "2023-06-01"
    betas: tuple[str, ...] = ()
    attempt_uid_header: str | None = "x-client-request-id"
    price_list: str | None = None
    simulated: bool = False
    errors_may_be_billed: bool = False
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    stream: StreamMode = StreamMode.AUTO
    request_timeout_seconds: float = 600
    stream_timeout_seconds: float = 3600
    stream_idle_seconds: float = 300
    connect_timeout_seconds: float = 10
    allow_insecure_http: bool = False

    @property
    def messages_url(self) -> str:
        """Where a Messages body is posted (messages-api, 1.1)."""
        return f"{api_root(self.base_url)}/messages"

    @property
    def models_url(self) -> str:
        """Where the server lists its models."""
        return f"{api_root(self.base_url)}/models"


def api_root(base_url: str) -> str:
    """The URL up to and including `/v1`, from any of the spellings people use."""
    url = base_url.rstrip("/").removesuffix("/messages")
    return url if url.endswith("/v1") else f"{url}/v1"


def quota_fingerprint(endpoint: Endpoint, key: Secret | None, salt: str) -> str:
    """Text that two processes share when they draw on one quota: same address, same key.

    A keyed hash of 16 bytes, so that it tells nothing of the key; `salt` is the database's own
    name, so that it is another text in every database.
    """
    secret = key.reveal() if key else ""
    hashed = blake2b(digest_size=16, key=salt.encode()[:64], person=b"batcher quota")
    hashed.update(f"{api_root(endpoint.base_url)}\0{secret}".encode())
    return hashed.hexdigest()


def check_url(endpoint: Endpoint) -> None:
    """Raise `ConfigurationError` unless the base URL is https, or http to this machine."""
    try:
        parts = urlsplit(endpoint.base_url)
        host = parts.hostname
        _ = parts.port, (host or "").encode("idna")  # as it is asked for
    except ValueError as exc:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: base_url {endpoint.base_url!r} is no URL: {exc}"
        ) from exc
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: base_url {endpoint.base_url!r} must start with https://"
        )
    if parts.username or parts.password:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: base_url holds a user or password; keys belong in the "
            "environment or a 0600 file"
        )
    if parts.scheme == "http" and not (endpoint.allow_insecure_http or is_loopback(host)):
        raise ConfigurationError(
            f"endpoint {endpoint.name}: {endpoint.base_url} would send the key and the prompts "
            "unencrypted; use https, or set allow_insecure_http = true for this endpoint"
        )


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, judged without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
