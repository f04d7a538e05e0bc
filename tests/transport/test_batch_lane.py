"""The batch lane alone: what its journal is told while attempts are taken back."""

import asyncio

from batcher.clock import SystemClock
from batcher.messages.request import BatchState, NotSent, SeenBatch, Submitted
from batcher.transport.batch.batch_lane import BatchLane, PackLimits
from tests.making_runs import until
from tests.transport.servers import attempt


class Book:
    """A journal; an intent is durable when the test says so."""

    def __init__(self):
        self.intents, self.unmade, self.gates = [], [], []

    async def intended(self, attempts):
        self.intents.append([attempt.uid for attempt in attempts])
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()
        return len(self.intents)

    async def made(self, number, seen):
        pass

    async def not_made(self, number):
        self.unmade.append(number)

    async def lost(self, number):
        pass


class Server:
    def __init__(self):
        self.bodies = []

    async def create(self, body, betas):
        self.bodies.append(body)
        return SeenBatch(
            batch_id="b", state=BatchState.IN_PROGRESS, requests=1, created_at=0, expires_at=1
        )

    async def close(self):
        pass


async def until_intended(book, times):
    await until(lambda: len(book.intents) >= times)


def lane_of(book, server, requests):
    return BatchLane(server, SystemClock(), book, PackLimits(requests=requests))


def test_what_is_taken_back_while_its_intent_is_written_is_in_no_create():
    book, server = Book(), Server()

    async def scene():
        lane = lane_of(book, server, 2)
        sending = [asyncio.create_task(lane.send(each)) for each in (attempt(), attempt())]
        await until_intended(book, 1)
        sending[0].cancel()
        taken_back = await sending[0]
        book.gates[0].set()
        await until_intended(book, 2)
        book.gates[1].set()
        submitted = await sending[1]
        await lane.close()
        return taken_back, submitted

    taken_back, submitted = asyncio.run(scene())
    assert isinstance(taken_back, NotSent)
    assert submitted == Submitted(2)
    assert book.unmade == [1], "its count would find no batch if the create were lost"
    assert [len(uids) for uids in book.intents] == [2, 1]
    assert [body.count(b'"custom_id"') for body in server.bodies] == [1]


def test_an_abort_while_an_intent_is_written_leaves_no_create_to_look_for():
    book, server = Book(), Server()

    async def scene():
        lane = lane_of(book, server, 2)
        sending = [asyncio.create_task(lane.send(each)) for each in (attempt(), attempt())]
        await until_intended(book, 1)
        lane.drain()
        for each in sending:
            each.cancel()
        ends = await asyncio.gather(*sending)
        book.gates[0].set()
        await until(lambda: book.unmade)
        await lane.close()
        return ends

    ends = asyncio.run(scene())
    assert all(isinstance(end, NotSent) for end in ends)
    assert (book.unmade, len(book.intents), server.bodies) == ([1], 1, [])
