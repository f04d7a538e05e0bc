"""What a config.toml and a job file may say, as msgspec reads it; also as JSON schemas.

And of settings that several layers state: which are in force, and which layer said them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from batcher.messages.answer import Store
from batcher.messages.failure import Verdict
from batcher.messages.request import StreamMode
from batcher.pipeline.choices import (
    CacheMode,
    GuardTable,
    IfRunning,
    LaneChoice,
    LogFormat,
    OnUnknown,
    ToolTable,
    ValidateTable,
)
from batcher.pricing.book.book import MOST_DAYS
from batcher.rows.build.settings import Attachments
from batcher.transport.endpoint import Auth, shown_url


class Retry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The `[retry]` table: how patient the run is; times in seconds."""

    max_attempts: int | None = None
    first_wait_seconds: float | None = None
    max_wait_seconds: float | None = None
    first_contact_seconds: float | None = None
    give_up_seconds: float | None = None
    drain_timeout_seconds: float | None = None
    max_legs: int | None = None


class RequestTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The `[request]` table: columns that are sent all the same, and mere data."""

    passed: tuple[str, ...] = msgspec.field(default=(), name="pass")
    ignore: tuple[str, ...] = ()


class CacheTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The `[cache]` table: whether rows that begin alike use the prompt cache on purpose."""

    mode: CacheMode | None = None


class ModelsTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The `[models]` table: what stands for the models that rows of other APIs name."""

    map: dict[str, str] = {}


class ValueSource(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`{ env = … }` or `{ file = … }`, as it is read; one of the two."""

    env: str | None = None
    file: str | None = None


HeaderValue = str | ValueSource


class NotifyTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The `[notify]` table: who gets one message when an invocation does not end with 0."""

    command: tuple[str, ...] | None = None
    webhook: HeaderValue | None = None


class EndpointTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One `[endpoints.NAME]` table; what is missing comes from the preset of that name."""

    base_url: str | None = None
    dialect: str | None = None
    auth: Auth | None = None
    api_key_env: str | None = None
    api_key_file: str | None = None
    api_key_command: tuple[str, ...] | None = None
    api_key_ttl_seconds: float | None = None
    aws_service: str | None = None
    aws_region: str | None = None
    anthropic_version: str | None = None
    betas: tuple[str, ...] | None = None
    attempt_uid_header: str | None = None
    price_list: str | None = None
    simulated: bool | None = None
    batches: bool | None = None
    errors_billed: Literal["no", "maybe"] | None = None
    verdicts: dict[str, Verdict] | None = None
    request_timeout_seconds: float | None = None
    connect_timeout_seconds: float | None = None
    allow_insecure_http: bool | None = None
    stream: StreamMode | None = None
    stream_timeout_seconds: float | None = None
    stream_idle_seconds: float | None = None
    proxy: str | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    auth_header: str | None = None
    headers: dict[str, HeaderValue] | None = None
    admin_url: str | None = None
    admin_key_file: str | None = None


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What any of the layers may say; `None` leaves it to the next layer."""

    database: str | None = None
    schema: str | None = None
    endpoint: str | None = None
    base_url: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    system: str | None = None
    prompt: str | None = None
    betas: tuple[str, ...] | None = None
    attachments: Attachments | None = None
    concurrency: int | None = None
    rpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    quota_share: float | None = None
    limit: int | None = None
    max_runtime: str | None = None
    max_cost: str | int | None = None
    max_cost_month: str | int | None = None
    ask_above: str | int | None = None
    max_bad: str | int | None = None
    on_unknown: OnUnknown | None = None
    on_truncate: str | None = None
    on_invalid: str | None = None
    store: Store | None = None
    min_free_space: str | int | None = None
    lifeboat_folder: str | None = None
    prices: str | None = None
    price_book_max_age_days: int | None = None
    output: str | None = None
    if_running: IfRunning | None = None
    lane: LaneChoice | None = None
    deadline: str | None = None
    deadline_pays: bool | None = None
    tz: str | None = None
    join: bool | None = None
    processes: int | None = None
    on: Literal["ray"] | None = None
    workers: int | None = None
    lease: str | None = None
    database_wait: str | None = None
    strict: bool | None = None
    dedup: bool | None = None
    preflight: bool | None = None
    parameters: dict[str, Any] | None = None
    stream: StreamMode | None = None
    request: RequestTable | None = None
    models: ModelsTable | None = None
    cache: CacheTable | None = None
    retry: Retry | None = None
    tags: dict[str, str] | None = None
    headers: dict[str, HeaderValue] | None = None
    log_file: str | None = None
    log_format: LogFormat | None = None
    metrics_file: str | None = None
    ping_url: HeaderValue | None = None
    notify: NotifyTable | None = None


# What holds where no layer says anything; settings without a default are not named.
DEFAULTS: Final = Settings(
    endpoint="anthropic",
    max_tokens=1024,
    attachments=Attachments.BESIDE_INPUT,
    concurrency=64,
    quota_share=1.0,
    on_unknown=OnUnknown.RETRY,
    on_truncate="keep",
    on_invalid="keep",
    store=Store.FULL,
    price_book_max_age_days=MOST_DAYS,
    if_running=IfRunning.FAIL,
    lane=LaneChoice.LIVE,
    deadline_pays=False,
    join=False,
    processes=1,
    lease="30s",
    database_wait="5m",
    strict=False,
    dedup=False,
    preflight=True,
    log_format=LogFormat.TEXT,
)


class ConfigFile(Settings, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A config.toml: settings plus endpoints."""

    endpoints: dict[str, EndpointTable] = {}


class _Block(
    msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True, tag_field="type"
):
    """A part of a message's content."""


class TextBlock(_Block, tag="text", frozen=True):
    """A text, made by a template."""

    text: str


class ImageBlock(_Block, tag="image", frozen=True):
    """The images that a column brings."""

    column: str


class DocumentBlock(_Block, tag="document", frozen=True):
    """The documents that a column brings."""

    column: str


class MessageTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One `[[messages]]` table: whose words, and the template, or the blocks, they are."""

    role: Literal["user", "assistant"]
    content: str | tuple[TextBlock | ImageBlock | DocumentBlock, ...]

    @property
    def parts(self) -> str | tuple[tuple[str, str], ...]:
        """The template, or kinds of block, each with its template or column."""
        if isinstance(self.content, str):
            return self.content
        return tuple(
            ("text", block.text)
            if isinstance(block, TextBlock)
            else ("image" if isinstance(block, ImageBlock) else "document", block.column)
            for block in self.content
        )


class ScheduleTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The `[schedule]` table: when the job is started, and in which time zone its days are."""

    cron: str | None = None
    tz: str | None = None


class FallbackTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """An endpoint that rows go to when the one before does not answer, and its model there."""

    endpoint: str
    model: str | None = None


class JobFile(Settings, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A job file: settings plus a name and inputs, and what is done with answers.

    To whom else prompts may go is said here, or typed: never in a config.toml.
    """

    name: str | None = None
    inputs: tuple[str, ...] = ()
    messages: tuple[MessageTable, ...] = ()
    tools: dict[str, ToolTable] = {}
    validate: ValidateTable | None = None
    empty: Literal["fail", "ok"] = "fail"
    schedule: ScheduleTable = ScheduleTable()
    fallback: tuple[str | FallbackTable, ...] = ()
    fallback_after: str | None = None
    fallback_on_doubt: bool | None = None
    guard: GuardTable | None = None


_KINDS = {"job": JobFile, "config": ConfigFile}


def schema_of(kind: str) -> str:
    """The JSON schema of a `job` file or of a `config` file, as text."""
    made = msgspec.json.schema(_KINDS[kind])
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
    return (
        msgspec.json.format(msgspec.json.encode(schema, order="deterministic")).decode() + "\n"
    )


_SHOWN: Final[Mapping[str, Callable[[str], str]]] = {
    "base_url": shown_url,
    "admin_url": shown_url,
}
_SECRET = ("headers", "ping_url", "notify")  # a value that is written out may be a secret


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One setting: its name, its value as a file would say it, and where that came from."""

    name: str
    value: Any
    origin: str


def settings_in_force(layers: Sequence[tuple[str, Settings]]) -> Iterator[SettingInForce]:
    """Every setting that some layer states; the first layer wins, in tables key by key."""
    for name, encoded in zip(
        Settings.__struct_fields__, Settings.__struct_encode_fields__, strict=True
    ):
        stated = [(origin, getattr(layer, name)) for origin, layer in layers]
        said = [(origin, value) for origin, value in stated if value is not None]
        for each in _first(encoded, said):
            if not isinstance(each.value, str):
                yield each
            elif name in _SECRET:
                yield replace(each, value="***")
            else:
                yield replace(each, value=_SHOWN.get(name, str)(each.value))


def _first(name: str, stated: Sequence[tuple[str, Any]]) -> Iterator[SettingInForce]:
    seen: set[str] = set()
    for origin, value in stated:
        plain = _plain(value)
        if not isinstance(plain, Mapping):
            yield SettingInForce(name, plain, origin)
            return
        for key, inner in plain.items():
            if key not in seen and inner is not None:
                seen.add(key)
                yield SettingInForce(f"{name}.{key}", inner, origin)


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a setting can be
    if isinstance(value, str):
        from batcher.ledger.connect import without_passwords  # noqa: PLC0415 - the database library: seldom asked for

        return without_passwords(str(value))
    return msgspec.to_builtins(value)
