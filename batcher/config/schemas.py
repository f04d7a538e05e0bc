"""The JSON schemas of the files that people write, made of the tables that read them."""

import msgspec

from batcher.config.tables import ConfigFile, JobFile

_KINDS = {"job": JobFile, "config": ConfigFile}


def schema_of(kind: str) -> str:
    """The JSON schema of a `job` file or of a `config` file, as text."""
    made = msgspec.json.schema(_KINDS[kind])
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
    return (
        msgspec.json.format(msgspec.json.encode(schema, order="deterministic")).decode() + "\n"
    )
