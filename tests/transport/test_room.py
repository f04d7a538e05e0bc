"""Room for answers: however many are read, memory is bounded, and one always gets through."""

import asyncio

from batcher.transport.room import AnswerRoom, HeldRoom
from tests.simulator.asking import asynchronous

MB = 2**20


async def read(room: AnswerRoom, size: int, step: int, most: list[int]) -> HeldRoom:
    """An answer that comes in steps, as fast as there is room."""
    held = HeldRoom(room)
    for end in range(step, size + 1, step):
        if not held.fits(end):
            await held.wait()
        most.append(room.taken_bytes)
        await asyncio.sleep(0)
    return held


@asynchronous
async def test_many_at_once_take_no_more_than_the_room_and_one_answer():
    room, most = AnswerRoom(4 * MB), []

    async def whole():
        (await read(room, 2 * MB, MB // 8, most)).close()

    await asyncio.gather(*(whole() for _ in range(50)))
    assert room.taken_bytes == 0
    # each that waits has taken its last step; one may go beyond
    assert max(most) <= 4 * MB + 2 * MB + 50 * MB // 8


@asynchronous
async def test_an_answer_larger_than_the_room_is_read_to_its_end():
    room, most = AnswerRoom(MB), []
    held = await read(room, 8 * MB, MB, most)
    assert room.taken_bytes == 8 * MB
    held.close()
    assert room.taken_bytes == 0


@asynchronous
async def test_what_is_read_takes_room_until_it_is_recorded():
    room, most = AnswerRoom(MB), []
    held = await read(room, 2 * MB, MB, most)
    await held.wait_to_be_read()
    held.passed_on().keep(7)
    assert room.unsaved == {7: 10 * MB}
    waiting = asyncio.create_task(read(room, MB, MB // 2, most))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()  # the first is still the one that may go beyond
    room.recorded(7)
    (await waiting).close()
    assert room.taken_bytes == 0


@asynchronous
async def test_one_that_is_given_up_while_it_waits_leaves_nothing_behind():
    room, most = AnswerRoom(MB), []
    first = await read(room, 2 * MB, MB, most)

    async def second():
        with HeldRoom(room) as held:
            held.fits(MB)
            await held.wait()

    waiting = asyncio.create_task(second())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert room.taken_bytes == 2 * MB
    first.close()
    (await read(room, MB, MB, most)).close()
    assert room.taken_bytes == 0


@asynchronous
async def test_nobody_knows_of_attempts_that_took_no_room():
    room = AnswerRoom(MB)
    room.recorded(99)
    assert room.taken_bytes == 0
