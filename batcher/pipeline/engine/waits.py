"""Waiting for the first of several things."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any


async def first_of(*waits: Awaitable[object]) -> None:
    """Return when the first of `waits` is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def end_all(tasks: "Sequence[asyncio.Task[Any]]") -> None:
    """Cancel `tasks` and wait for their end; what they failed with was told elsewhere."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
