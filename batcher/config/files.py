"""Settings from files and environment variables: where they are, and what they say.

A mistyped name of an environment variable is refused, as in a settings file. A config.toml that
was only found, in the folder where a command was typed, may be somebody else's: an archive that
was unpacked, a shared folder. Settings that could send a key elsewhere are not taken from it.
"""

import codecs
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from batcher.config.tables import (
    ConfigFile,
    EndpointTable,
    HeaderValue,
    Settings,
    ValueSource,
)
from batcher.config.values import checked_days, explained
from batcher.errors import BatcherError, ConfigurationError, UsageError, no_such_file


def check_trusted(path: Path, settings: ConfigFile) -> None:
    """Raise `ConfigurationError` where a file that nobody named says where secrets go.

    It may, when root or the user owns it, in a folder that others cannot write.
    """
    what = _sensitive(settings)
    if not what:
        return
    owner = path.stat().st_uid
    if owner in {0, os.geteuid()} and not _others_write(path.resolve().parent):
        return
    raise ConfigurationError(
        f"{path} says {what}, belongs to user {owner} and may be somebody else's: name it with "
        f"--config {path} if you trust it, or make it yours, in a folder closed to others"
    )


def _sensitive(settings: ConfigFile) -> str:
    """The first setting that has to do with secrets, in words; empty: there is none."""
    if settings.base_url:
        return "base_url"
    if _from_elsewhere(settings.headers):
        return "headers from elsewhere"
    for name, table in settings.endpoints.items():
        if found := _of_endpoint(table):
            return f"{found} of endpoint {name}"
    return ""


def _of_endpoint(table: EndpointTable) -> str:
    if _from_elsewhere(table.headers):
        return "headers from elsewhere"
    if table.base_url and table.auth != "none":
        return "base_url and key"
    if table.api_key_command:
        return "api_key_command"
    if table.admin_url or table.admin_key_file:
        return "admin_url" if table.admin_url else "admin_key_file"
    return "api_key_file" if table.api_key_file else ""


def _from_elsewhere(headers: dict[str, HeaderValue] | None) -> bool:
    return any(isinstance(value, ValueSource) for value in (headers or {}).values())


def _others_write(folder: Path) -> bool:
    """Whether anybody may put a file there in place of ours; a sticky folder protects it."""
    mode = folder.stat().st_mode
    return bool(mode & 0o002) and not mode & 0o1000


PREFIX: Final = "BATCHER_"
CONFIG: Final = f"{PREFIX}CONFIG"
_TABLES: Final = frozenset(
    {"parameters", "request", "models", "retry", "tags", "betas", "headers", "notify", "cache"}
)
_ALIKE: Final = 0.8  # DATABSE and DATABASE_URL are meant for DATABASE, HISTORY for nothing


def variables() -> dict[str, str]:
    """The settings that are one value, by the variable that holds them."""
    return {
        PREFIX + name.upper(): name
        for name in Settings.__struct_fields__
        if name not in _TABLES
    }


def check_names(set_here: Iterable[str]) -> None:
    """Refuse `BATCHER_` variables that look like a setting and are none.

    Others that begin so are somebody's own, such as a key's.

    Raises:
        ConfigurationError: names the variable, and the one that it is taken for.
    """
    known = [*variables(), CONFIG]
    for name in sorted(set_here):
        if not name.startswith(PREFIX) or name in known:
            continue
        if name.removeprefix(PREFIX).lower() in _TABLES:
            raise ConfigurationError(
                f"environment: {name} is not read, since it is not one value: write"
                f" {name.removeprefix(PREFIX).lower()} into config.toml or the job file"
            )
        bare = [each.removeprefix(PREFIX) for each in known]
        for meant in get_close_matches(name.removeprefix(PREFIX).upper(), bare, 1, _ALIKE):
            raise ConfigurationError(
                f"environment: {name}: unknown setting; write {PREFIX}{meant}, or give a"
                " variable of your own another name"
            )


CONFIG_NAME: Final = "config.toml"
DATABASE_NAME: Final = "batcher.db"
T = TypeVar("T", bound=Settings)
# Settings that may name a file or hold one after `@`; relative to the file that says so.
_FILE_SETTINGS: Final = (
    "database", "prices", "output", "lifeboat_folder", "log_file", "metrics_file",
)  # fmt: skip
_ENDPOINT_FILES: Final = (
    "api_key_file", "admin_key_file", "ca_file", "client_certificate", "client_key",
)  # fmt: skip
_TEXT_SETTINGS: Final = ("system", "prompt")


_VARIABLE: Final = re.compile(r"\$\{[A-Za-z_]\w*\}")
# What is sent to a model, or run by a program that has variables of its own.
_OF_OTHERS: Final = frozenset(
    {
        "system",
        "prompt",
        "parameters",
        "request",
        "tools",
        "validate",
        "notify",
        "tags",
        "api_key_command",
    }
)


def read_toml(path: Path, kind: type[T]) -> T:
    """A settings file; raises `UsageError` when missing, `ConfigurationError` when wrong."""
    try:
        table = tomllib.loads(_text_of(path))
    except FileNotFoundError as exc:
        raise UsageError(no_such_file(str(path), path)) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path}: is not valid TOML: {exc}") from exc
    for name in _with_variables(table):
        instead = "" if "." in name else f", or set the variable {PREFIX}{name.upper()}"
        raise ConfigurationError(
            f"{path}: {name} holds a ${{VARIABLE}}, which nobody fills in here: write the value"
            f" itself{instead}"
        )
    try:
        settings = msgspec.convert(table, kind)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{path}: {explained(exc, kind)}") from exc
    return _anchored(settings, path.parent)


def _text_of(path: Path) -> str:
    """As editors on Windows write it too: with a mark at its beginning, or as UTF-16."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data[:2]:  # without its mark: TOML begins with a character of ASCII
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    return data.decode(encoding).replace("\r\n", "\n")


def _with_variables(table: Mapping[str, Any]) -> Iterator[str]:
    """The settings whose author expects `${VARIABLE}` to be filled in; prompts may hold it."""
    for name, value in table.items():
        if name in _OF_OTHERS:
            continue
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _with_variables(value))
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and _VARIABLE.search(text) for text in texts):
            yield name


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
    if path is None:
        return ConfigFile()
    settings = read_toml(path, ConfigFile)
    if not (option or os.environ.get(CONFIG)):
        check_trusted(path, settings)
    return settings


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
        raise ConfigurationError(f"environment: {explained(exc, Settings, PREFIX)}") from exc
    return _anchored(settings, Path.cwd())


def option_settings(options: Mapping[str, Any]) -> Settings:
    """What was typed, or given by a program, as a layer of settings."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in _TEXT_SETTINGS:
        if given.get(name):
            given[name] = text_or_file(given[name], Path())
    try:
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as exc:
        raise UsageError(f"options: {explained(exc, Settings)}") from exc


def sample_config() -> str:
    """The commented sample of a config.toml."""
    return (resources.files("batcher") / "data" / CONFIG_NAME).read_text(encoding="utf-8")


def database_url(option: str | None, config: str | None = None) -> str:
    """The database that commands without a job use: option, environment, config.toml, here."""
    layers = (environment_settings(), read_config(config))
    named = (option, *(layer.database for layer in layers))
    schemas = (layer.schema for layer in layers)
    return in_schema(
        next(filter(None, named), DATABASE_NAME), next(filter(None, schemas), None)
    )


def in_schema(database: str, schema: str | None) -> str:
    """The URL of `schema` in a server's `database`, unless that names one; a file has none."""
    if schema is None or not database.startswith("postgres") or "://" not in database:
        return database
    if re.search(r"[?&]schema=", database):
        return database
    return f"{database}{'&' if '?' in database else '?'}schema={quote(schema, safe='')}"


def price_book_max_age(config: str | None = None) -> int:
    """The days after which commands without a job warn of a price book; 0: never."""
    named = environment_settings().price_book_max_age_days
    return checked_days(read_config(config).price_book_max_age_days if named is None else named)


def lifeboat_folders(configured: str | None) -> tuple[Path | None, tuple[Path, ...]]:
    """Where paid answers go when the ledger fails: the configured folder, and the last ones."""
    state = at_home(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    spare = (Path(state) / "batcher", Path("/var/tmp"))  # noqa: S108 - 0600, and never followed
    return Path(configured) if configured else None, spare


def lifeboat_places(config: str | None) -> tuple[Path | None, tuple[Path, ...]]:
    """The same without a job; a broken file is told to whoever needs more of it."""
    configured = None
    with suppress(BatcherError):
        configured = environment_settings().lifeboat_folder
        configured = configured or read_config(config).lifeboat_folder
    return lifeboat_folders(configured)


def environment_of(names: Sequence[str]) -> dict[str, str]:
    """Those of the variables that are set, for programs that get nothing else."""
    return {name: os.environ[name] for name in names if name in os.environ}


def pod_uid() -> str:
    """The pod of Kubernetes that we are in, where its unit hands on metadata.uid; else ""."""
    return os.environ.get("POD_UID", "")


def set_unless_set(variable: str, value: str) -> None:
    """Give a library what it reads from the environment only, unless somebody has."""
    os.environ.setdefault(variable, value)


def text_or_file(value: str, folder: Path) -> str:
    """The text itself, or for `@name` what the file of that name in `folder` holds."""
    if not value.startswith("@"):
        return value
    path = folder / at_home(value[1:])
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:  # a name with a NUL, bytes that are no UTF-8
        raise UsageError(f"{value!r:.300}: cannot be read: {exc}") from exc


def _anchored(settings: T, folder: Path) -> T:
    """Names of files in a settings file are relative to that file; `@file` texts are read."""
    changes: dict[str, Any] = {}
    for name in _FILE_SETTINGS:
        value = getattr(settings, name)
        if value and "://" not in value and value not in {"none", "-"}:
            changes[name] = str(folder / at_home(value))
    for name in _TEXT_SETTINGS:
        value = getattr(settings, name)
        if value:
            changes[name] = text_or_file(value, folder)
    if settings.headers:
        changes["headers"] = _anchored_headers(settings.headers, folder)
    if isinstance(settings, ConfigFile):
        changes["endpoints"] = {
            name: _anchored_endpoint(table, folder)
            for name, table in settings.endpoints.items()
        }
    return msgspec.structs.replace(settings, **changes)


def _anchored_endpoint(table: EndpointTable, folder: Path) -> EndpointTable:
    changes: dict[str, Any] = {
        name: str(folder / at_home(value))
        for name in _ENDPOINT_FILES
        if (value := getattr(table, name))
    }
    if table.headers:
        changes["headers"] = _anchored_headers(table.headers, folder)
    return msgspec.structs.replace(table, **changes)


def _anchored_headers(headers: dict[str, HeaderValue], folder: Path) -> dict[str, HeaderValue]:
    return {
        name: ValueSource(file=str(folder / at_home(value.file)))
        if isinstance(value, ValueSource) and value.file
        else value
        for name, value in headers.items()
    }


def at_home(name: str) -> str:
    """`name` with a leading `~` replaced, where that home is known."""
    return os.path.expanduser(name)  # noqa: PTH111 - pathlib raises where it is not
