"""Each setting in force, and which layer said it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from batcher.config.tables import Settings
from batcher.ledger.connect import without_passwords
from batcher.transport.endpoint import shown_url

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
        return without_passwords(str(value))
    return msgspec.to_builtins(value)
