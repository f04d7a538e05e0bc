"""The names of environment variables: a mistyped setting is refused, as in a settings file."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from batcher.config.tables import Settings
from batcher.errors import ConfigurationError

PREFIX: Final = "BATCHER_"
CONFIG: Final = f"{PREFIX}CONFIG"
_TABLES: Final = frozenset(
    {"parameters", "request", "models", "retry", "tags", "betas", "headers", "notify"}
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
