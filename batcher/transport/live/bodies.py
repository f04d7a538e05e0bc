"""Bodies of answers, read to their end or as far as they are wanted."""

import asyncio
from contextlib import suppress
from typing import Final

import aiohttp

from batcher.messages.parts import ANSWER_LIMIT
from batcher.transport.live.send_errors import TROUBLES, SendError

BODY_LIMIT: Final = ANSWER_LIMIT
_REST_BYTES: Final = 64 * 2**10  # what may follow the end of a message
_REST_SECONDS: Final = 1


async def read_whole(content: aiohttp.StreamReader) -> bytes:
    """The body, at most `BODY_LIMIT` bytes of it also when compressed or of unknown length."""
    whole = bytearray()
    async for chunk in content.iter_any():
        if content.at_eof() and not whole and len(chunk) <= BODY_LIMIT:
            return chunk  # most answers come in one piece
        whole += chunk
        if len(whole) > BODY_LIMIT:
            message = f"the answer is larger than {BODY_LIMIT // 2**20} MiB"
            raise SendError("answer_too_large", message, left=True)
    return bytes(whole)


async def let_end(content: aiohttp.StreamReader) -> None:
    """Read the rest of a finished stream, so that its connection can be used again."""
    left = _REST_BYTES
    with suppress(*TROUBLES):
        async with asyncio.timeout(_REST_SECONDS):
            async for chunk in content.iter_any():
                left -= len(chunk)
                if left < 0:
                    return
