"""Endpoints by name, from the presets, config.toml and the variables of official tooling."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from batcher.config.keys import custom_headers, header_from
from batcher.config.tables import EndpointTable, HeaderValue
from batcher.errors import ConfigurationError, did_you_mean
from batcher.transport.endpoint import (
    PROVIDER_HOST,
    Auth,
    Endpoint,
    ExtraHeader,
    Federation,
    check_route,
    check_url,
    is_near,
)
from batcher.transport.proxy import VARIABLES, route_to

# What official tooling reads; for the endpoint `anthropic` only, below every other setting.
_BASE_URL: Final = "ANTHROPIC_BASE_URL"
_TOKEN: Final = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105 - the variable's name
_HEADERS: Final = "ANTHROPIC_CUSTOM_HEADERS"
_ADMIN_KEY: Final = "ANTHROPIC_ADMIN_KEY"
_PLACE: Final = re.compile(r"\{([A-Z_]+)\}")
_PLACE_VALUE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_REGION: Final = "AWS_REGION"
_ALSO: Final = {_REGION: "AWS_DEFAULT_REGION"}
_KEYS: Final = frozenset({"auth", "api_key_env", "api_key_file", "api_key_command"})
_OAUTH_BETA: Final = "oauth-2025-04-20"  # a bearer key that was exchanged needs it


def endpoint_named(name: str, tables: Mapping[str, EndpointTable]) -> Endpoint:
    """The endpoint of that name, from the presets and config.toml."""
    presets = _presets()
    if name not in presets and name not in tables:
        known = endpoint_names(tables)
        raise ConfigurationError(
            f"unknown endpoint {name!r}; known are {', '.join(known)}, others go into "
            f"config.toml as [endpoints.{name}]{did_you_mean(name, known)}"
        )
    own = _fields(tables.get(name, EndpointTable()))
    fields = {**_fields(presets.get(name, EndpointTable())), **own}
    if "base_url" not in fields:
        raise ConfigurationError(f"endpoint {name}: config.toml gives it no base_url")
    fields["base_url"] = _with_places(name, fields["base_url"], fields.get("aws_region"))
    endpoint = _as_on_aws(_endpoint(name, fields), own)
    if name == "anthropic":
        endpoint = _as_official_tooling(endpoint, own)
    return at(endpoint, endpoint.base_url)


def admin_endpoint(endpoint: Endpoint) -> Endpoint:
    """The Admin API beside `endpoint`: the provider's own host, or `admin_url`.

    It gets a key of its own and none of the headers that `base_url` gets, by the way that leads
    there. Raises `ConfigurationError` for an endpoint whose provider has no such address.
    """
    is_provider = endpoint.dialect == "anthropic" and not endpoint.simulated
    address = endpoint.admin_url or (f"https://{PROVIDER_HOST}" if is_provider else None)
    if address is None:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: no address of its provider's reports is known; set"
            f" admin_url of [endpoints.{endpoint.name}], or save the reports and name the files"
        )
    beside = replace(
        endpoint, base_url=address, auth=Auth.X_API_KEY, auth_header=None, headers=(), betas=(),
        api_key_env=_ADMIN_KEY, api_key_file=endpoint.admin_key_file, api_key_command=(),
        federation=None, anthropic_version=endpoint.anthropic_version or "2023-06-01", notes=(),
    )  # fmt: skip
    return at(beside, address)


def _with_places(name: str, base_url: str, region: str | None) -> str:
    """The address of a preset with what only the environment knows: a region, a resource."""

    def value_of(place: re.Match[str]) -> str:
        value = region if region and place[1] == _REGION else _variable(place[1])
        if not _PLACE_VALUE.fullmatch(value):
            raise ConfigurationError(
                f"endpoint {name}: its address is {base_url}: set the variable {place[1]} to"
                f" lower-case letters, digits and -, or base_url in [endpoints.{name}]"
            )
        return value

    return _PLACE.sub(value_of, base_url)


def at(
    endpoint: Endpoint, base_url: str, headers: Mapping[str, HeaderValue] | None = None
) -> Endpoint:
    """The endpoint at that address, by the proxy that leads there, with these headers more.

    Raises `ConfigurationError` for an address, a proxy or a header that cannot be used.
    """
    more = tuple(
        header_from(endpoint.name, name, value) for name, value in (headers or {}).items()
    )
    names = {header.name.lower() for header in more}
    kept = tuple(header for header in endpoint.headers if header.name.lower() not in names)
    moved = replace(endpoint, base_url=base_url, headers=(*kept, *more))
    if base_url != endpoint.base_url:
        notes = tuple(note for note in endpoint.notes if not note.startswith(_BASE_URL))
        moved = replace(moved, notes=notes)
    check_url(moved)
    routed = replace(moved, route=route_to(base_url, moved.proxy, _proxy_variables()))
    check_route(routed)
    return routed


def _proxy_variables() -> dict[str, str]:
    names = [spelled for name in VARIABLES for spelled in (name, name.upper())]
    return {name: os.environ[name] for name in names if name in os.environ}


def _as_official_tooling(endpoint: Endpoint, own: Mapping[str, Any]) -> Endpoint:
    """What `ANTHROPIC_…` variables say, where config.toml says nothing; told in `notes`."""
    notes = []
    address = os.environ.get(_BASE_URL, "").strip()
    if address and "base_url" not in own:
        endpoint = replace(endpoint, base_url=address)
        check_url(endpoint)
        notes.append(f"{_BASE_URL} is set: requests go to {urlsplit(address).hostname}")
    key = os.environ.get(endpoint.api_key_env or "", "").strip()
    configured = own.keys() & _KEYS
    if not key and not configured and os.environ.get(_TOKEN):
        endpoint = replace(endpoint, auth=Auth.BEARER, api_key_env=_TOKEN)
        notes.append(f"{_TOKEN} is set: it is sent as a bearer token")
    elif not key and not configured:
        endpoint, said = _federated(endpoint)
        notes += said
    headers = _not_said(custom_headers(os.environ.get(_HEADERS, "")), endpoint)
    if headers:
        endpoint = replace(endpoint, headers=(*endpoint.headers, *headers))
        notes.append(f"{_HEADERS} adds {', '.join(header.name for header in headers)}")
    return replace(endpoint, notes=tuple(notes))


def _as_on_aws(endpoint: Endpoint, own: Mapping[str, Any]) -> Endpoint:
    """Signed where no token is there, as the official clients do; told in `notes`."""
    if endpoint.aws_service is None:
        if endpoint.auth is Auth.SIGV4:
            raise ConfigurationError(
                f"endpoint {endpoint.name}: requests are signed for a service of AWS: set"
                ' aws_service, for example to "bedrock-mantle"'
            )
        return endpoint
    endpoint = replace(endpoint, aws_region=endpoint.aws_region or _variable(_REGION) or None)
    token = os.environ.get(endpoint.api_key_env or "", "").strip()
    if token or own.keys() & _KEYS or is_near(urlsplit(endpoint.base_url).hostname or ""):
        return endpoint
    note = (
        f"{endpoint.api_key_env} is not set: requests to {endpoint.name} are signed with"
        " credentials of AWS"
    )
    return replace(endpoint, auth=Auth.SIGV4, notes=(*endpoint.notes, note))


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(_ALSO.get(name, ""), "")


def _federated(endpoint: Endpoint) -> tuple[Endpoint, list[str]]:
    """The endpoint with a workload's identity for a key, where the variables name one."""
    file, rule, organization, account, workspace = (
        os.environ.get(f"ANTHROPIC_{name}", "").strip() or None
        for name in (
            "IDENTITY_TOKEN_FILE", "FEDERATION_RULE_ID", "ORGANIZATION_ID",
            "SERVICE_ACCOUNT_ID", "WORKSPACE_ID",
        )
    )  # fmt: skip
    if not (file and rule and organization):
        return endpoint, []
    federation = Federation(
        token_file=Path(file), rule_id=rule, organization_id=organization,
        service_account_id=account, workspace_id=workspace,
    )  # fmt: skip
    betas = (*endpoint.betas, _OAUTH_BETA)
    note = f"ANTHROPIC_IDENTITY_TOKEN_FILE is set: its identity is exchanged under rule {rule}"
    return replace(endpoint, auth=Auth.BEARER, federation=federation, betas=betas), [note]


def _not_said(headers: tuple[ExtraHeader, ...], endpoint: Endpoint) -> tuple[ExtraHeader, ...]:
    said = {header.name.lower() for header in endpoint.headers}
    return tuple(header for header in headers if header.name.lower() not in said)


def endpoint_names(tables: Mapping[str, EndpointTable]) -> list[str]:
    """All endpoints that may be named."""
    return sorted({*_presets(), *tables})


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
    billed = fields.pop("errors_billed", None)
    verdicts = fields.pop("verdicts", {})
    if not all(status.isdecimal() for status in verdicts):
        raise ConfigurationError(f"endpoint {name}: verdicts are by HTTP status, like 403")
    for optional in ("anthropic_version", "attempt_uid_header", "price_list"):
        if fields.get(optional) == "":  # TOML has no null: an empty text switches it off
            fields[optional] = None
    if "anthropic_version" not in fields:
        fields["anthropic_version"] = None
    headers: dict[str, HeaderValue] = fields.pop("headers", {})
    return Endpoint(
        name=name,
        headers=tuple(header_from(name, each, value) for each, value in headers.items()),
        errors_may_be_billed=None if billed is None else billed == "maybe",
        verdicts={int(status): verdict for status, verdict in verdicts.items()},
        **fields,
    )
