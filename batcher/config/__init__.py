"""Settings from options, environment, job file and config.toml; the only reader of them."""

import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from batcher.config.tables import (
    ConfigFile,
    EndpointTable,
    JobFile,
    RequestTable,
    Retry,
    Settings,
)
from batcher.config.variables import CONFIG, PREFIX, check_names, variables
from batcher.errors import AccessRefused, ConfigurationError, UsageError
from batcher.pricing.book.age import MOST_DAYS
from batcher.pricing.money import LARGEST_AMOUNT, parse_usd
from batcher.transport.endpoint import Auth, Endpoint, Secret, check_url

__all__ = [
    "CONFIG_NAME",
    "DATABASE_NAME",
    "ConfigFile",
    "EndpointTable",
    "JobFile",
    "RequestTable",
    "Retry",
    "Settings",
    "checked_days",
    "database_url",
    "endpoint_named",
    "endpoint_names",
    "environment_of",
    "environment_settings",
    "find_config",
    "key_source",
    "lifeboat_folders",
    "pico_usd",
    "price_book_max_age",
    "read_config",
    "read_key",
    "read_toml",
    "seconds",
    "size_bytes",
    "text_or_file",
]

CONFIG_NAME: Final = "config.toml"
DATABASE_NAME: Final = "batcher.db"
_KINDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


T = TypeVar("T", bound=Settings)

# Settings that may name a file or hold one after `@`; relative to the file that says so.
_FILE_SETTINGS: Final = ("database", "prices", "output", "lifeboat_folder")
_SIZES: Final = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_TEXT_SETTINGS: Final = ("system", "prompt")


def read_toml(path: Path, kind: type[T]) -> T:
    """A settings file; raises `UsageError` when missing, `ConfigurationError` when wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: no such file; check the name") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path}: is not valid TOML: {exc}") from exc
    try:
        settings = msgspec.convert(table, kind)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{path}: {_plain(str(exc))}") from exc
    return _anchored(settings, path.parent)


def find_config(option: str | None, job_path: Path | None) -> Path | None:
    """Where config.toml is: named, else beside the job or above it, else here, else nowhere."""
    named = option or os.environ.get(CONFIG)
    if named:
        return Path(named)
    folders = [job_path.parent, job_path.parent.parent] if job_path else []
    for folder in [*(folder.resolve() for folder in folders), Path.cwd()]:
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    return None


def read_config(option: str | None, job_path: Path | None = None) -> ConfigFile:
    """The config.toml in force, or an empty one when there is none."""
    path = find_config(option, job_path)
    return read_toml(path, ConfigFile) if path else ConfigFile()


def environment_settings() -> Settings:
    """`BATCHER_<SETTING>` variables, for the settings that are one value."""
    check_names(name for name, value in os.environ.items() if value)
    given = {
        name: os.environ[variable]
        for variable, name in variables().items()
        if os.environ.get(variable)
    }
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"environment: {_plain(str(exc), PREFIX)}") from exc
    return _anchored(settings, Path.cwd())


def database_url(option: str | None, config: str | None = None) -> str:
    """The database that commands without a job use: option, environment, config.toml, here."""
    for named in (option, environment_settings().database, read_config(config).database):
        if named:
            return named
    return DATABASE_NAME


def price_book_max_age(config: str | None = None) -> int:
    """The days after which commands without a job warn of a price book; 0: never."""
    named = environment_settings().price_book_max_age_days
    return checked_days(read_config(config).price_book_max_age_days if named is None else named)


def checked_days(value: int | None) -> int:
    """`price_book_max_age_days`; raises `ConfigurationError` for less than 0."""
    if value is not None and value < 0:
        raise ConfigurationError(
            f"price_book_max_age_days is {value}; write days, or 0 for no warning"
        )
    return MOST_DAYS if value is None else value


def endpoint_named(name: str, tables: Mapping[str, EndpointTable]) -> Endpoint:
    """The endpoint of that name, from the presets and config.toml."""
    presets = _presets()
    if name not in presets and name not in tables:
        known = ", ".join(sorted({*presets, *tables}))
        raise ConfigurationError(
            f"unknown endpoint {name!r}; known are {known}, others go into config.toml as "
            f"[endpoints.{name}]"
        )
    fields = {
        **_fields(presets.get(name, EndpointTable())),
        **_fields(tables.get(name, EndpointTable())),
    }
    if "base_url" not in fields:
        raise ConfigurationError(f"endpoint {name}: config.toml gives it no base_url")
    endpoint = _endpoint(name, fields)
    check_url(endpoint)
    return endpoint


def endpoint_names(tables: Mapping[str, EndpointTable]) -> list[str]:
    """All endpoints that may be named."""
    return sorted({*_presets(), *tables})


def read_key(endpoint: Endpoint) -> Secret | None:
    """The endpoint's key from its environment variable or 0600 file; `None`: it needs none.

    Raises `AccessRefused` when it is missing or its file may be read by others.
    """
    if endpoint.auth is Auth.NONE:
        return None
    if endpoint.simulated:
        return Secret("simulator")  # any key will do
    if endpoint.api_key_file:
        return _key_from_file(endpoint, Path(_at_home(endpoint.api_key_file)))
    value = os.environ.get(endpoint.api_key_env or "", "").strip()
    if not value:
        raise AccessRefused(
            f"endpoint {endpoint.name} needs a key: set the environment variable "
            f"{endpoint.api_key_env}, or api_key_file in config.toml"
        )
    return _checked_key(endpoint, value)


def key_source(endpoint: Endpoint) -> str:
    """Where the key is looked for, in words; never the key."""
    if endpoint.auth is Auth.NONE or endpoint.simulated:
        return "none needed"
    if endpoint.api_key_file:
        return f"file {endpoint.api_key_file}"
    return f"environment variable {endpoint.api_key_env}"


def environment_of(names: Sequence[str]) -> dict[str, str]:
    """Those of the variables that are set, for programs that get nothing else."""
    return {name: os.environ[name] for name in names if name in os.environ}


def seconds(text: str) -> float:
    """`90`, `90s`, `15m`, `2h` or `1h30m` in seconds; raises `ConfigurationError`."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or match is None:
        raise ConfigurationError(f"{text!r} is no duration; write 90s, 15m, 2h or 1h30m")
    hours, minutes, rest = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest or 0)


def size_bytes(name: str, value: str | int | None) -> int | None:
    """`200 MB`, `1.5GB` or a number of bytes; raises `ConfigurationError`."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?b)?", str(value).strip().lower())
    if match is None:
        raise ConfigurationError(f"{name} is {value!r}; write a size, like 200 MB, or 0")
    return (
        int(Fraction(match[1]) * _SIZES[match[2] or ""]) if match[2] != "b" else int(match[1])
    )


def lifeboat_folders(configured: str | None) -> tuple[Path | None, tuple[Path, ...]]:
    """Where paid answers go when the ledger fails: the configured folder, and the last ones."""
    state = _at_home(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    spare = (Path(state) / "batcher", Path("/var/tmp"))  # noqa: S108 - 0600, and never followed
    return Path(configured) if configured else None, spare


def pico_usd(name: str, amount: str | int | None) -> int | None:
    """A cap in pico-USD from a setting such as `"12.50"`; raises `ConfigurationError`."""
    if amount is None:
        return None
    try:
        pico = parse_usd(str(amount).strip().removeprefix("$"))
    except ValueError as exc:
        raise ConfigurationError(f"{name} is {amount!r}; write US dollars, like 12.50") from exc
    if not 0 < pico <= LARGEST_AMOUNT:
        raise ConfigurationError(
            f"{name} is {amount!r}; it must be above 0 and below 9 million"
        )
    return pico


def _presets() -> dict[str, EndpointTable]:
    text = (files("batcher") / "data" / "endpoints.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, EndpointTable])


def _fields(table: EndpointTable) -> dict[str, Any]:
    return {
        name: getattr(table, name)
        for name in table.__struct_fields__
        if getattr(table, name) is not None
    }


def _endpoint(name: str, fields: dict[str, Any]) -> Endpoint:
    billed = fields.pop("errors_billed", "no")
    if billed not in {"no", "maybe"}:
        raise ConfigurationError(
            f"endpoint {name}: errors_billed is {billed!r}, not no or maybe"
        )
    verdicts = fields.pop("verdicts", {})
    if not all(status.isdecimal() for status in verdicts):
        raise ConfigurationError(f"endpoint {name}: verdicts are by HTTP status, like 403")
    for optional in ("anthropic_version", "attempt_uid_header", "price_list"):
        if fields.get(optional) == "":  # TOML has no null: an empty text switches it off
            fields[optional] = None
    if "anthropic_version" not in fields:
        fields["anthropic_version"] = None
    return Endpoint(
        name=name,
        errors_may_be_billed=billed == "maybe",
        verdicts={int(status): verdict for status, verdict in verdicts.items()},
        **fields,
    )


def _key_from_file(endpoint: Endpoint, path: Path) -> Secret:
    try:
        status = _look_at(path)
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise AccessRefused(
            f"endpoint {endpoint.name}: the key file {path} cannot be read: {exc}"
        ) from exc
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise AccessRefused(
            f"endpoint {endpoint.name}: the key file {path} may be read by others; "
            f"type chmod 600 {path}"
        )
    return _checked_key(endpoint, value)


def _look_at(path: Path) -> os.stat_result:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file")  # a pipe may never end
    return status


def _checked_key(endpoint: Endpoint, value: str) -> Secret:
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise AccessRefused(
            f"endpoint {endpoint.name}: the key from the {key_source(endpoint)} holds "
            "characters that no key has; check for a stray line or quote"
        )
    return Secret(value)


def _anchored(settings: T, folder: Path) -> T:
    """Names of files in a settings file are relative to that file; `@file` texts are read."""
    changes: dict[str, Any] = {}
    for name in _FILE_SETTINGS:
        value = getattr(settings, name)
        if value and "://" not in value and value not in {"none", "-"}:
            changes[name] = str(folder / _at_home(value))
    for name in _TEXT_SETTINGS:
        value = getattr(settings, name)
        if value:
            changes[name] = text_or_file(value, folder)
    if isinstance(settings, ConfigFile):
        changes["endpoints"] = {
            name: _anchored_key_file(table, folder)
            for name, table in settings.endpoints.items()
        }
    return msgspec.structs.replace(settings, **changes)


def _anchored_key_file(table: EndpointTable, folder: Path) -> EndpointTable:
    if not table.api_key_file:
        return table
    path = folder / _at_home(table.api_key_file)
    return msgspec.structs.replace(table, api_key_file=str(path))


def text_or_file(value: str, folder: Path) -> str:
    """The text itself, or for `@name` what the file of that name in `folder` holds."""
    if not value.startswith("@"):
        return value
    path = folder / _at_home(value[1:])
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:  # a name with a NUL, bytes that are no UTF-8
        raise UsageError(f"{value!r:.300}: cannot be read: {exc}") from exc


def _at_home(name: str) -> str:
    """`name` with a leading `~` replaced, where that home is known."""
    return os.path.expanduser(name)  # noqa: PTH111 - pathlib raises where it is not


def _plain(message: str, prefix: str = "") -> str:
    """A validation error in the words of the file: its field, not a JSON path."""
    match = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*)`)?", message)
    text, where = match.groups() if match else (message, None)
    text = text.replace("Object contains unknown field", "unknown setting")
    text = re.sub(r"Expected `(.*?)`, got `.*?`", lambda kinds: _kinds(kinds[1]), text)
    return f"{prefix}{where.upper() if prefix else where}: {text}" if where else text


def _kinds(words: str) -> str:
    """What a value must be, as people call it."""
    kinds = (_KINDS.get(word, word) for word in words.split(" | ") if word != "null")
    return f"must be {' or '.join(kinds)}"


def set_unless_set(variable: str, value: str) -> None:
    """Give a library what it reads from the environment only, unless somebody has."""
    os.environ.setdefault(variable, value)
