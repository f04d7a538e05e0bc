"""Columns beside a prompt: pictures and documents, and the beta headers of one row."""

import re
from collections.abc import Mapping
from typing import Any, Final

from batcher.rows.read.parse import kind
from batcher.rows.reasons import Reason, RowProblem

IMAGES: Final = "images"
DOCUMENTS: Final = "documents"
BETAS: Final = "betas"
OWN_COLUMNS: Final = (IMAGES, DOCUMENTS, BETAS)  # never body fields where they mean something

_BETA: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def attached(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The blocks that the columns `documents` and `images` stand for, in this order.

    A cell is one of, or a list of: a path, a URL, a source object, a whole block. Raises
    `RowProblem`.
    """
    return [
        *_blocks("document", DOCUMENTS, row.get(DOCUMENTS)),
        *_blocks("image", IMAGES, row.get(IMAGES)),
    ]


def row_betas(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in the column `betas`, a list or a text with commas; raises `RowProblem`."""
    value = row.get(BETAS)
    if value is None:
        return ()
    names = value.split(",") if type(value) is str else value
    if type(names) is not list or not all(type(name) is str for name in names):
        raise RowProblem(
            Reason.WRONG_TYPE, f"betas is {kind(value)}; it must be a list of beta names"
        )
    stripped = [name.strip() for name in names]
    for name in filter(None, stripped):
        if not is_beta_name(name):
            raise RowProblem(Reason.WRONG_TYPE, f"betas holds {name!r:.120}, no beta name")
    return tuple(filter(None, stripped))


def is_beta_name(name: str) -> bool:
    """Whether `name` may stand in a header."""
    return _BETA.fullmatch(name) is not None


def _blocks(block_type: str, column: str, value: object) -> list[dict[str, Any]]:
    if value is None or value == "":
        return []
    values = value if type(value) is list else [value]
    return [_block(block_type, column, one) for one in values if one is not None]


def _block(block_type: str, column: str, value: object) -> dict[str, Any]:
    if type(value) is str:
        is_url = value.lower().startswith(("http://", "https://"))
        source = {"type": "url", "url": value} if is_url else {"type": "path", "path": value}
        return {"type": block_type, "source": source}
    if type(value) is not dict:
        raise RowProblem(
            Reason.WRONG_TYPE,
            f"{column} holds {kind(value)}; it must hold paths, URLs or source objects",
        )
    return value if value.get("type") == block_type else {"type": block_type, "source": value}
