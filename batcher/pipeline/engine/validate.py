"""Whether an answer is the JSON that was asked for."""

from typing import TYPE_CHECKING, Final

import msgspec

from batcher.errors import ConfigurationError
from batcher.messages.codec import CODEC_ERRORS, MOST_PARTS, has_more_parts

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_MOST_SCHEMAS: Final = 1_000
_REASON_LENGTH: Final = 300


class Validity(msgspec.Struct, frozen=True, gc=False):
    """`valid` `None`: it could not be told; the reason says why it is not valid, or why not."""

    valid: bool | None
    reason: str | None = None


NOT_ASKED: Final = Validity(None)


class _Format(msgspec.Struct):
    type: str = ""
    schema: msgspec.Raw = msgspec.Raw()


class _OutputConfig(msgspec.Struct):
    format: _Format | None = None


class _Body(msgspec.Struct):
    output_config: _OutputConfig | None = None


_BODY: Final = msgspec.json.Decoder(_Body)


class AnswerValidator:
    """Checks answers against the schema of the job, else against the one in their request.

    `schema` is the JSON text of the job's own. Raises `ConfigurationError` when that is no
    JSON Schema. References to other documents are never followed.
    """

    def __init__(self, schema: bytes | None = None) -> None:
        self._schema = schema
        self._compiled: dict[bytes, Validator | str] = {}
        if schema is not None and isinstance(fault := self._validator(schema), str):
            raise ConfigurationError(f"[validate] schema: {fault}")

    def asks(self, body: bytes) -> bytes | None:
        """The schema that the answer to `body` must follow; `None`: there is none."""
        if self._schema is not None or b'"output_config"' not in body:
            return self._schema
        try:
            config = _BODY.decode(body).output_config
        except CODEC_ERRORS:
            return None  # the endpoint's business
        if config is None or config.format is None or config.format.type != "json_schema":
            return None
        return bytes(config.format.schema) or None

    def check(self, schema: bytes, text: str) -> Validity:
        """Whether `text` is JSON that follows `schema`."""
        validator = self._validator(schema)
        if isinstance(validator, str):
            return Validity(None, validator)
        raw = text.strip().encode()
        if has_more_parts(raw, MOST_PARTS):
            return Validity(valid=False, reason=f"it holds more than {MOST_PARTS:,} values")
        try:
            value = msgspec.json.decode(raw)
        except CODEC_ERRORS as exc:
            return Validity(valid=False, reason=_short(f"no JSON: {exc}"))
        return _follows(validator, value)

    def _validator(self, schema: bytes) -> "Validator | str":
        known = self._compiled.get(schema)
        if known is None:
            if len(self._compiled) >= _MOST_SCHEMAS:
                self._compiled.clear()
            known = self._compiled[schema] = _compile(schema)
        return known


def _compile(schema: bytes) -> "Validator | str":
    """A validator, or why there is none."""
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - slow to import, seldom used
    from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415
    from referencing.jsonschema import EMPTY_REGISTRY  # noqa: PLC0415

    try:
        parsed = msgspec.json.decode(schema)
        kind = validator_for(parsed, default=Draft202012Validator)
        kind.check_schema(parsed)
        return kind(parsed, registry=EMPTY_REGISTRY)
    except SchemaError as exc:
        return _short(f"no JSON Schema: {exc.message}")
    except Exception as exc:  # noqa: BLE001 - whatever a row's schema is, it must not end the run
        return _short(f"no JSON Schema: {exc}")


def _follows(validator: "Validator", value: object) -> Validity:
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - see _compile
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        error = best_match(validator.iter_errors(value))
    except Unresolvable as exc:
        return Validity(None, _short(f"the schema refers to {exc.ref}, which is not in it"))
    except RecursionError:
        return Validity(None, "the schema, or the answer, is nested too deeply")
    except Exception as exc:  # noqa: BLE001 - see _compile
        return Validity(None, _short(f"the schema cannot be used: {exc}"))
    if error is None:
        return Validity(valid=True)
    return Validity(valid=False, reason=_short(f"{error.json_path}: {error.message}"))


def _short(reason: str) -> str:
    return reason.replace("\0", "\ufffd")[:_REASON_LENGTH]
