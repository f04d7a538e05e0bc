"""Keys and secret headers: where they come from, and what may not be one."""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from batcher.config.files import at_home
from batcher.config.tables import HeaderValue
from batcher.errors import AccessRefused, ConfigurationError
from batcher.transport.endpoint import (
    SIMULATOR_KEY,
    Auth,
    Endpoint,
    ExtraHeader,
    Secret,
    is_near,
)
from batcher.transport.live.mask import Mask

_LARGEST: Final = 2**16  # characters of a secret
_NO_WORD: Final = 16  # characters: so long a key is no word by chance
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
# What the connection is made of, and what other settings say.
_TAKEN: Final = {
    "content-length": "it is made for each request",
    "content-type": "a Messages body is always JSON",
    "accept": "a Messages answer is always JSON",
    "accept-encoding": "answers are asked for as they are",
    "connection": "it belongs to the connection",
    "transfer-encoding": "it belongs to the connection",
    "host": "it is in base_url",
    "proxy-authorization": "write user and password into the proxy's URL",
    "anthropic-version": "set anthropic_version",
    "anthropic-beta": "set betas",
}

# What is never repeated, though somebody typed it in the wrong place.
_USER: Final = re.compile(r"(?<=://)([^\s/:@'\"]*):[^\s'\"]*@")
_QUERY: Final = re.compile(
    r"(?i)(?<=[?&])([\w-]*(?:key|token|sig|secret|password)[\w-]*=)[^&\s'\"]+"
)
_LIKE_A_KEY: Final = re.compile(r"(?<![\w-])sk-[\w-]{12,}")
_HOLDS_A_KEY: Final = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD)$")


def masked(message: str) -> str:
    """`message` without keys of this environment, what looks like one, and URLs' passwords.

    Whatever repeats what somebody typed goes through here: it may be a key in the wrong place.
    """
    message = _LIKE_A_KEY.sub("[key]", _QUERY.sub(r"\1***", _USER.sub(r"\1:***@", message)))
    values = {value for name, value in os.environ.items() if _HOLDS_A_KEY.search(name)}
    keys = (value for value in values if not value.startswith("/"))  # a file's name
    return Mask(*map(Secret, keys)).text(message)


def read_key(endpoint: Endpoint) -> Secret | None:
    """The endpoint's key from its environment variable or 0600 file.

    `None`: it needs none, as on this machine or in a private network where the variable is not
    set, or gets one when a request is about to be sent. Raises `AccessRefused` when it is
    missing or its file may be read by others.
    """
    if endpoint.auth is Auth.NONE:
        return None
    if endpoint.simulated:
        return SIMULATOR_KEY
    if endpoint.api_key_file:
        return _key_from_file(endpoint, Path(at_home(endpoint.api_key_file)))
    if _gets_one_later(endpoint):
        return None
    value = os.environ.get(endpoint.api_key_env or "", "").strip()
    if not value and is_near(_host(endpoint)):
        return None
    if not value:
        raise AccessRefused(
            f"endpoint {endpoint.name} needs a key: set the environment variable "
            f"{endpoint.api_key_env}, or api_key_file in config.toml"
        )
    return checked_key(endpoint, value)


def _gets_one_later(endpoint: Endpoint) -> bool:
    """Whether the key is asked for when a request is about to be sent."""
    if endpoint.auth is Auth.SIGV4 and find_spec("botocore") is None:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: set {endpoint.api_key_env or 'an api_key_env'}, or, to"
            " sign requests with credentials of AWS, type: pip install 'messages-batcher[aws]'"
        )
    changes = endpoint.api_key_command or endpoint.federation
    return endpoint.auth is Auth.SIGV4 or bool(changes)


def _host(endpoint: Endpoint) -> str:
    return urlsplit(endpoint.base_url).hostname or ""


def check_not_typed(
    endpoint: Endpoint, key: Secret | None, words: Iterable[str], tags: Mapping[str, str]
) -> None:
    """Raise where what is typed or set for a run holds its key: the ledger keeps those words.

    A short key is looked for in `tags` only: the word that a local server takes for a key may
    be an endpoint's name, too.
    """
    if key is None or key is SIMULATOR_KEY:
        return
    mask = Mask(key)
    kept = [*tags, *tags.values(), *(words if len(key.reveal()) >= _NO_WORD else ())]
    if any(mask.text(each) != each for each in kept):
        raise ConfigurationError(
            f"endpoint {endpoint.name}: its key, or a part of it, stands in the command, the"
            " job or a tag, which are kept and shown: take it out, and change the key"
        )


def read_admin_key(endpoint: Endpoint) -> Secret:
    """The key of an Admin API, see `admin_endpoint`; raises `AccessRefused` as `read_key`."""
    named = endpoint.api_key_file or os.environ.get(endpoint.api_key_env or "", "").strip()
    key = read_key(endpoint) if named or endpoint.simulated else None
    if key is None:
        raise AccessRefused(
            "the provider's reports need an admin key: set the environment variable"
            f" {endpoint.api_key_env}, or admin_key_file of [endpoints.{endpoint.name}]"
        )
    return key


def key_source(endpoint: Endpoint) -> str:
    """Where the key is looked for, in words; never the key."""
    if endpoint.auth is Auth.NONE or endpoint.simulated:
        return "none needed"
    if endpoint.api_key_file:
        return f"file {endpoint.api_key_file}"
    if endpoint.auth is Auth.SIGV4 or endpoint.api_key_command or endpoint.federation:
        return _later_source(endpoint)
    if is_near(_host(endpoint)) and not os.environ.get(endpoint.api_key_env or "", "").strip():
        return f"none sent: {endpoint.api_key_env} is not set, and the address is near"
    return f"environment variable {endpoint.api_key_env}"


def _later_source(endpoint: Endpoint) -> str:
    if endpoint.auth is Auth.SIGV4:
        return f"credentials of AWS, as botocore finds them, for {endpoint.aws_service}"
    if endpoint.federation:
        return f"workload identity in {endpoint.federation.token_file}"
    return f"command {endpoint.api_key_command[0]}"


def header_from(endpoint: str, name: str, value: HeaderValue) -> ExtraHeader:
    """A header of the configuration; from a file or a variable its value is a secret.

    Raises `ConfigurationError` for a name that cannot be sent or is not ours to give, and
    `AccessRefused` where the value is not there.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"endpoint {endpoint}: {name!r:.80} is no name of a header")
    if name.lower() in _TAKEN:
        raise ConfigurationError(
            f"endpoint {endpoint}: the header {name} cannot be set: {_TAKEN[name.lower()]}"
        )
    text = _text_of(f"endpoint {endpoint}: the header {name}", value)
    if not text.isprintable() or not text.isascii():
        raise ConfigurationError(
            f"endpoint {endpoint}: the value of the header {name} holds characters that no "
            "header has"
        )
    return ExtraHeader(name=name, value=Secret(text), secret=not isinstance(value, str))


def secret_from(name: str, value: HeaderValue) -> Secret:
    """A secret setting called `name`: as it stands, from a variable, or from a private file."""
    return Secret(_text_of(name, value))


def custom_headers(lines: str) -> tuple[ExtraHeader, ...]:
    """Headers as official tooling has them in a variable, a line each; all are secret."""
    found = []
    for line in filter(str.strip, lines.splitlines()):
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name.strip()):
            raise ConfigurationError(
                "ANTHROPIC_CUSTOM_HEADERS: write one `Name: value` a line"
            )  # the line is not repeated: it may hold a secret
        header = header_from("anthropic", name.strip(), value.strip())
        found.append(ExtraHeader(name=header.name, value=header.value, secret=True))
    return tuple(found)


def _text_of(what: str, value: HeaderValue) -> str:
    if isinstance(value, str):
        return value
    if (value.env is None) == (value.file is None):
        raise ConfigurationError(f'{what} is text, {{ env = "NAME" }} or {{ file = "PATH" }}')
    if value.file is not None:
        return _secret_file(what, Path(value.file))
    text = os.environ.get(value.env or "", "").strip()
    if not text:
        raise AccessRefused(
            f"{what} is in the environment variable {value.env}, which is not set"
        )
    return text


def _key_from_file(endpoint: Endpoint, path: Path) -> Secret:
    return checked_key(endpoint, _secret_file(f"endpoint {endpoint.name}: the key", path))


def _secret_file(what: str, path: Path) -> str:
    """What a secret's file holds; judged once it is open, since a name may lead elsewhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            _refuse_shared(what, path, descriptor)
            return file.read(_LARGEST).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise AccessRefused(f"{what} cannot be read from the file {path}: {exc}") from exc


def _refuse_shared(what: str, path: Path, descriptor: int) -> None:
    """Nobody else may read or write it, but for secrets as containers mount them.

    Kubernetes and Docker hand a process files of root that it does not own: readable by its
    group (0440), or by all (0444) on a file system that nobody can write.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file")  # a pipe may never end
    mode = stat.S_IMODE(status.st_mode)
    if not mode & 0o077:
        return
    read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
    mounted = status.st_uid == 0 and os.geteuid() != 0 and not mode & 0o022
    if mounted and (not mode & 0o007 or (mode & 0o004 and read_only)):
        return
    raise AccessRefused(f"{what}: its file {path} may be read by others; type chmod 600 {path}")


def checked_key(endpoint: Endpoint, value: str) -> Secret:
    """The key; raises `AccessRefused` for what holds characters that no key has."""
    if not value:
        raise AccessRefused(
            f"endpoint {endpoint.name}: the key from the {key_source(endpoint)} is empty"
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        raise AccessRefused(
            f"endpoint {endpoint.name}: the key from the {key_source(endpoint)} holds "
            "characters that no key has; check for a stray line or quote"
        )
    return Secret(value)
