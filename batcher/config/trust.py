"""Settings that could send a key elsewhere are taken from nobody's files but our own.

A config.toml that was only found, in the folder where a command was typed, may be somebody
else's: an archive that was unpacked, a shared folder.
"""

import os
from pathlib import Path

from batcher.config.tables import ConfigFile, EndpointTable, HeaderValue, ValueSource
from batcher.errors import ConfigurationError


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
