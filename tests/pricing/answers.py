"""Answers with a given usage, for tests of prices."""

import json

from batcher.messages.answer import Answer
from batcher.messages.usage import parse_usage

NOVEMBER = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z, in microseconds
DAY = 86_400_000_000


def answer(
    usage, model="claude-haiku-4-5", stop_reason="end_turn", content=b'[{"type":"text"}]'
):
    raw = None if usage is None else json.dumps(usage).encode()
    return Answer(
        message_id="msg_1",
        model=model,
        stop_reason=stop_reason,
        stop_sequence=None,
        content=content,
        text="",
        text_repaired=False,
        usage=parse_usage(raw),
        usage_raw=raw,
    )


def tokens(input_tokens=0, output_tokens=0, **others):
    return {"input_tokens": input_tokens, "output_tokens": output_tokens, **others}
