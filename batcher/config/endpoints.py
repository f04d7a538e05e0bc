"""Endpoints by name, from the presets and config.toml, and their keys."""

import os
import stat
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from batcher.config.files import at_home
from batcher.config.tables import EndpointTable
from batcher.errors import AccessRefused, ConfigurationError
from batcher.transport.endpoint import Auth, Endpoint, Secret, check_url


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
        return _key_from_file(endpoint, Path(at_home(endpoint.api_key_file)))
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
