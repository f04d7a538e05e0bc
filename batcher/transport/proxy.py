"""Through which proxy an address is reached: one answer for requests, `doctor` and pings.

The variables are those that curl and Python read: `https_proxy`, `http_proxy`, `all_proxy` and
`no_proxy`, the name in lower case first. This machine is never reached through a proxy.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from batcher.errors import ConfigurationError
from batcher.transport.endpoint import Proxy, Route, Secret, is_loopback

FROM_ENVIRONMENT: Final = "environment"
NONE: Final = "none"
_PORTS: Final = {"http": 80, "https": 443}
VARIABLES: Final = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")


def route_to(url: str, setting: str, environment: Mapping[str, str]) -> Route:
    """How `url` is reached; `setting` is `environment`, `none` or a proxy's URL.

    Raises `ConfigurationError` for a proxy that cannot be used: SOCKS, or no URL at all.
    """
    target = urlsplit(url)
    host = target.hostname or ""
    if is_loopback(host):
        return Route()
    if setting == NONE:
        return Route(why='proxy = "none"')
    if setting != FROM_ENVIRONMENT:
        return Route(proxy=_proxy(setting, "the endpoint's proxy"), why="proxy of the endpoint")
    name, value = _named(f"{target.scheme}_proxy", environment)
    if not value:
        name, value = _named("all_proxy", environment)
    if not value:
        return Route()
    exempting, exempt = _named("no_proxy", environment)
    if _is_exempt(host, target.port or _PORTS.get(target.scheme, 0), exempt):
        return Route(why=f"{exempting} names {host}")
    return Route(proxy=_proxy(value, name), why=name)


def _named(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The variable that counts and its value; an empty one in lower case switches it off."""
    for variable in (name, name.upper()):
        if variable in environment:
            return variable, environment[variable].strip()
    return name, ""


def _is_exempt(host: str, port: int, exempt: str) -> bool:
    return any(_matches(host, port, entry) for entry in exempt.replace(",", " ").split())


def _matches(host: str, port: int, entry: str) -> bool:
    """Whether one entry of `no_proxy` names `host`: a name or suffix, an address, a net."""
    if entry == "*":
        return True
    name, named_port = _without_port(entry.lower())
    if named_port is not None and named_port != port:
        return False
    address = _address(host)
    if address is not None:
        return _holds(name, address)
    suffix = name.removeprefix("*").strip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))


def _without_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        inside, _, rest = entry[1:].partition("]")
        return inside, int(rest[1:]) if rest[1:].isdecimal() else None
    name, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and ":" not in name:
        return name, int(port)
    return entry, None


def _holds(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _proxy(value: str, name: str) -> Proxy:
    """The proxy that `value` is; one without a scheme is an http one, as curl has it."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, SplitResult("", "", "", "", "")
    if parts.scheme.startswith("socks"):
        raise ConfigurationError(
            f"{name} names a SOCKS proxy, which is not supported: name an http:// or https:// "
            "proxy, or exempt the host in NO_PROXY"
        )
    if parts.scheme not in _PORTS or not host:
        raise ConfigurationError(
            f"{name} is no proxy: write http://host:port or https://host:port"
        )  # its value is not repeated: a password may be part of it
    shown = f"[{host}]" if ":" in host else host
    return Proxy(
        url=f"{parts.scheme}://{shown}:{port or _PORTS[parts.scheme]}",
        authorization=_authorization(parts),
        password=Secret(unquote(parts.password)) if parts.password else None,
    )


def _authorization(parts: SplitResult) -> Secret | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Secret(f"Basic {b64encode(pair.encode()).decode()}")
