"""Where the ledger is: a path or a URL, taken apart once; passwords are never shown."""

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy
from sqlalchemy.exc import ArgumentError

from batcher.errors import ConfigurationError

POSTGRESQL = ("postgresql", "postgresql+psycopg", "postgres")
_SECRETS = ("password", "sslpassword", "passfile")
_ALLOW_NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrl:
    """One ledger: a SQLite file or a PostgreSQL database.

    `path` is absolute, `None` on PostgreSQL. `shown` is safe to print: the path, or the URL
    with its password masked. `any_file_system` is true when `?network=allow` forced a path on
    a network file system.
    """

    url: sqlalchemy.URL = field(repr=False)
    shown: str
    path: Path | None = None
    any_file_system: bool = False

    @property
    def option(self) -> str:
        """`--database …` as a shell takes it, to be named in a sentence."""
        return f"--database {shlex.quote(self.shown)}"


def parse_url(text: str | sqlalchemy.URL) -> DatabaseUrl:
    """Understand a plain path, `sqlite:///path` or `postgresql+psycopg://…`.

    Raises:
        ConfigurationError: it is none of these; the message does not repeat a password.
    """
    if isinstance(text, sqlalchemy.URL):
        return _of_url(text)
    if "://" not in text:
        return _of_path(text, query={})
    try:
        return _of_url(sqlalchemy.make_url(text))
    except (ArgumentError, ValueError):
        scheme = text.split("://", 1)[0]
        raise ConfigurationError(
            f"the database URL that starts with {scheme}:// cannot be read; write it like"
            " postgresql+psycopg://user@host:5432/name, with %40 for an @ in the password"
        ) from None


def without_passwords(text: str) -> str:
    """`text`, such as a command as typed, with the passwords in its addresses masked."""
    masked = re.sub(r"(://[^\s:/@]*:)[^\s@]*@", r"\1***@", text)
    return re.sub(rf"([?&](?:{'|'.join(_SECRETS)})=)[^\s&'\"]*", r"\1***", masked)


def _of_url(url: sqlalchemy.URL) -> DatabaseUrl:
    if url.drivername == "sqlite":
        return _of_path(url.database or "", query=dict(url.query))
    if url.drivername in POSTGRESQL:
        url = url.set(drivername="postgresql+psycopg")
        return DatabaseUrl(url=url, shown=_masked(url))
    raise ConfigurationError(
        f"the database {url.drivername}://… is not supported; use a file name or"
        " postgresql+psycopg://user@host/name"
    )


def _of_path(text: str, *, query: dict[str, str | tuple[str, ...]]) -> DatabaseUrl:
    if text in {"", ":memory:"} or text.startswith("file:"):
        raise ConfigurationError(
            f"the database {text!r} is not a file on disk; name one, like batcher.db"
        )
    forced = query.pop(_ALLOW_NETWORK, None) == "allow"
    if query:
        raise ConfigurationError(
            f"the database URL has the unknown option {sorted(query)[0]!r}; SQLite takes only"
            f" ?{_ALLOW_NETWORK}=allow"
        )
    path = Path(_plain_path(text)).absolute()
    url = sqlalchemy.URL.create("sqlite", database=str(path))
    return DatabaseUrl(url=url, shown=str(path), path=path, any_file_system=forced)


def _plain_path(text: str) -> str:
    """`text` with a leading `~` replaced; raises for what SQLite takes no name from."""
    try:
        str(Path(text).absolute()).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"the database {text!r} cannot be there: SQLite takes UTF-8 names only; rename the"
            " folder, or name another place with --database"
        ) from None
    if "\0" in text:
        raise ConfigurationError(f"the database {text!r} cannot be there: no name holds a NUL")
    return os.path.expanduser(text)  # noqa: PTH111 - raises nothing for an unknown user


def _masked(url: sqlalchemy.URL) -> str:
    hidden = {name: "***" for name in _SECRETS if name in url.query}
    shown = url.update_query_dict(hidden).render_as_string(hide_password=True)
    return shown.replace("%2A%2A%2A", "***")
