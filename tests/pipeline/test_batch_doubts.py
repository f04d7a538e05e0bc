"""Answers about batches that come late, cut or as something else: no row is paid twice."""

from typing import Any

import pytest

from batcher.clock import SystemClock
from batcher.transport.batch.message_batches import MessageBatches
from batcher.transport.live.connections import SendError
from tests.pipeline.test_batches import batching, billed_once, rows_of


class SlowCreates:
    """The batch is made at once; its answer comes once it was looked at and could be over."""

    def __init__(self, inner: Any, *, arrives: bool) -> None:
        self._inner = inner
        self._arrives = arrives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create(self, body, betas):
        made = await self._inner.create(body, betas)
        for _ in range(1_500):  # it ends; time for whoever finds and collects it meanwhile
            await self._inner.look(made.batch_id)
        if self._arrives:
            return made
        raise SendError("timeout", "no answer came", left=True)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_batch_that_ends_before_its_create_is_answered_is_collected_once(case, arrives):
    case.write(rows_of(2))

    def spied(each):
        return SlowCreates(each, arrives=arrives) if hasattr(each, "create") else each

    with batching(case) as (case, simulator):
        assert case.in_batches(spied=spied).exit_code == 0
        billed_once(case, simulator)
        assert len(simulator.bill) == len(case.texts()) == 2


class QueueFullFor(SystemClock):
    """Hours behind until somebody waits for a queue; no such wait takes any time."""

    def __init__(self, hours):
        self._behind_us = hours * 3_600 * 10**6

    def now_us(self):
        return super().now_us() - self._behind_us

    async def sleep(self, seconds):
        if seconds >= 5:
            self._behind_us = 0
            seconds = 0
        await super().sleep(seconds)


def test_a_create_that_is_lost_after_hours_of_a_full_queue_is_found(case):
    case.write(rows_of(2))
    with batching(case, creations=("refused", "lost")) as (case, simulator):
        if case.in_batches(wait=False, clock=QueueFullFor(3)).exit_code == 75:  # not ended yet
            assert case.in_batches().exit_code == 0
        billed_once(case, simulator)
        assert len(simulator.bill) == len(case.texts()) == 2
    states = case.ask("SELECT state FROM v_batches ORDER BY batch_number")
    assert states == [("not_made",), ("collected",)]


def download_gives(body, times):
    """Something between us and the server answers so many downloads with `body`."""
    left = [times]

    def spied(each):
        if isinstance(each, MessageBatches):
            real = each._client.download

            async def download(url, take):
                left[0] -= 1
                if left[0] < 0:
                    return await real(url, take)
                return take(body)

            each._client.download = download
        return each

    return spied


@pytest.mark.parametrize("body", [b"<html>log in</html>\n", b'{"error":"x"}\n' * 3])
def test_results_that_are_something_else_are_asked_for_again(case, body):
    case.write(rows_of(3))
    with batching(case) as (case, simulator):
        ended = case.in_batches(spied=download_gives(body, times=4))
        billed_once(case, simulator)
        assert len(simulator.bill) == 3
    assert ended.exit_code == 0
    assert sum("cannot be read: they" in said for said in case.watcher.waits) == 1


@pytest.mark.parametrize("body", [b"", b'{"custom_id":"other","result":{"type":"canceled"}}\n'])
def test_results_that_lack_some_are_read_again_soon(case, body):
    case.write(rows_of(3))
    with batching(case) as (case, simulator):
        ended = case.in_batches(spied=download_gives(body, times=2))
        billed_once(case, simulator)
        assert len(simulator.bill) == 3
    assert (ended.exit_code, case.one("SELECT COUNT(*) FROM v_attempts")) == (0, 3)
