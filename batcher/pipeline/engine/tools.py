"""Runs the local commands that a model calls: no shell, few variables, a time limit."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from batcher.ledger.connect import Connection
from batcher.ledger.resume import save_tool_results
from batcher.ledger.write.writer import Writer
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.legs import ToolCall, tool_calls
from batcher.pipeline.choices import Tool
from batcher.pipeline.engine.work import Work

MOST_OUTPUT_BYTES: Final = 256 * 1024
_SHOWN_ERROR_BYTES: Final = 2_000
_READ_BYTES: Final = 64 * 1024
_PIPES_SECONDS: Final = 1
# What a tool_result may hold besides plain text.
_RESULT_BLOCKS: Final = {"text", "image", "document", "search_result"}


class Tools:
    """All tools of a job. At most one command per core runs at a time."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools
        self._room = asyncio.Semaphore(os.cpu_count() or 1)

    async def answer(self, work: Work, writer: Writer, now_us: int) -> None:
        """Run what the last leg of `work` calls, and make the results durable and its own."""
        leg = work.legs[-1]
        calls = tool_calls(leg.content) or []
        used = [c.name for past in work.legs[:-1] for c in tool_calls(past.content) or ()]
        blocks = await self._all(calls, used)
        results = msgspec.json.encode(blocks)
        attempt_id = work.last_attempt_id

        def save(connection: Connection) -> None:
            save_tool_results(connection, attempt_id, results.decode(), now_us)

        await asyncio.wrap_future(writer.call(save))
        work.tools_answered(results)

    async def _all(
        self, calls: Sequence[ToolCall], used: Sequence[str]
    ) -> list[dict[str, Any]]:
        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                for number, call in enumerate(calls):
                    before = [*used, *(c.name for c in calls[:number])].count(call.name)
                    tasks.append(group.create_task(self._one(call, before)))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [
            {"type": "tool_result", "tool_use_id": call.id, **task.result()}
            for call, task in zip(calls, tasks, strict=True)
        ]

    async def _one(self, call: ToolCall, calls_before: int) -> dict[str, Any]:
        tool = self._tools.get(call.name)
        if tool is None:
            return _error(f"there is no tool {call.name} here any more")
        if calls_before >= tool.max_calls:
            return _error(f"{call.name} may be called {tool.max_calls} times, and was")
        async with self._room:
            return await run_tool(tool, bytes(call.input))


async def run_tool(tool: Tool, input_json: bytes) -> dict[str, Any]:
    """The fields of a `tool_result`: what the command wrote, or `is_error` and why."""
    try:
        process = await asyncio.create_subprocess_exec(
            *tool.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=tool.folder,
            env=dict(tool.environment),
            start_new_session=True,  # a Ctrl-C is for us; and the whole group can be killed
        )
    except OSError as exc:
        return _error(f"the tool could not be started: {exc}")
    try:
        async with asyncio.timeout(tool.timeout_seconds):
            return await _talk(process, input_json)
    except TimeoutError:
        return _error(f"the tool took longer than {tool.timeout_seconds:g} seconds")
    finally:
        _kill(process)
        await asyncio.shield(_end(process))


async def _talk(process: asyncio.subprocess.Process, input_json: bytes) -> dict[str, Any]:
    _, out, said = await asyncio.gather(
        _feed(process.stdin, input_json), _read(process), _complaint(process.stderr)
    )
    if out is None:
        return _error(f"the tool wrote more than {MOST_OUTPUT_BYTES:,} bytes")
    status = await process.wait()
    if status:
        return _error(f"the tool ended with status {status}: {said or 'it gave no reason'}")
    return _output(out)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a killed tool, whose pipes may be full, or held by somebody else.

    `process.wait()` would wait for the pipes as well, and for ever: nobody reads them any more.
    """
    try:
        async with asyncio.timeout(_PIPES_SECONDS):
            await process.communicate()
    except TimeoutError:  # what it started has moved away, and holds them
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - no public way


async def _feed(stdin: asyncio.StreamWriter | None, input_json: bytes) -> None:
    """A tool need not read what it is given."""
    if stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(input_json)
        await stdin.drain()
    stdin.close()


async def _read(process: asyncio.subprocess.Process) -> bytes | None:
    """All that the tool writes; `None`, and it is killed, when that is too much."""
    read = bytearray()
    while process.stdout and (chunk := await process.stdout.read(_READ_BYTES)):
        read += chunk
        if len(read) > MOST_OUTPUT_BYTES:
            _kill(process)
            return None
    return bytes(read)


async def _complaint(stderr: asyncio.StreamReader | None) -> str:
    """The end of what the tool complains about."""
    read = b""
    while stderr and (chunk := await stderr.read(_READ_BYTES)):
        read = (read + chunk)[-_SHOWN_ERROR_BYTES:]
    return read.decode(errors="replace").strip()


def _output(out: bytes) -> dict[str, Any]:
    """A JSON array of content blocks is passed on as such, anything else as text."""
    with contextlib.suppress(*CODEC_ERRORS):
        blocks = msgspec.json.decode(out)
        if isinstance(blocks, list) and blocks and all(map(_is_block, blocks)):
            return {"content": blocks}
    text = out.decode(errors="replace").rstrip("\n")
    return {"content": text} if text.strip() else {}


def _is_block(value: object) -> bool:
    return isinstance(value, dict) and value.get("type") in _RESULT_BLOCKS


def _error(reason: str) -> dict[str, Any]:
    return {"content": reason, "is_error": True}


def _kill(process: asyncio.subprocess.Process) -> None:
    """The command and everything it started, unless they moved away."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
