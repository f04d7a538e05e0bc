"""Whether answers are still what was recorded: their checksums, and their text by content."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Engine, select

from batcher.ledger.connect import reading
from batcher.ledger.schema import NOT_KEPT, answers
from batcher.ledger.verify.findings import Findings
from batcher.ledger.write.encode import checksum_of
from batcher.messages.answer import NotAMessage, text_of

_CHUNK: Final = 50  # answers may be large
_READ: Final = tuple(
    answers.c[name]
    for name in (
        "attempt_id", "content", "usage", "joined_content", "joined_text", "text", "checksum",
    )
)  # fmt: skip


def contents_agree(engine: Engine, findings: Findings) -> None:
    """Compare each answer with its checksum; those of older programs by their text alone."""
    for chunk in _chunks(engine):
        for row in chunk:
            if said := _changed(row):
                findings.add("content", f"the answer of attempt {row.attempt_id}: {said}")


def _chunks(engine: Engine) -> Iterator[Sequence[Any]]:
    after = -1
    while rows := _after(engine, after):
        yield rows
        after = rows[-1].attempt_id


def _after(engine: Engine, after: int) -> Sequence[Any]:
    query = select(*_READ).where(answers.c.attempt_id > after).order_by(answers.c.attempt_id)
    with reading(engine) as connection:
        return connection.execute(query.limit(_CHUNK)).all()


def _changed(row: Any) -> str | None:  # noqa: ANN401 - a row of `_READ`
    usage = None if row.usage is None else row.usage.encode()
    found = checksum_of(row.content.encode(), usage, row.joined_content, row.joined_text)
    if row.checksum not in (None, found):
        return "content or usage is not what was recorded"
    if row.content == NOT_KEPT:
        return None
    try:
        text = text_of(row.content.encode())
    except NotAMessage as error:
        return str(error)
    return None if text == row.text else "its text is not that of its content"
