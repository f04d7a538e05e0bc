"""The simulator as a process of its own."""

import asyncio
import resource
import signal
from collections.abc import Callable

from batcher.simulator.server import Simulator
from batcher.simulator.settings import SimulatorSettings


def serve(
    settings: SimulatorSettings,
    announce: Callable[[str], None],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the base URL when clients may come.

    `loop_factory` makes the event loop, `None` for asyncio's own.
    """
    _raise_open_files()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(settings, announce))


async def _serve(settings: SimulatorSettings, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(settings) as simulator:
        announce(simulator.base_url)
        await stop.wait()


def _raise_open_files() -> None:
    """Thousands of clients need thousands of sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
