"""The provider's reports, fetched with the admin key of an endpoint."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from batcher.clock import SystemClock
from batcher.config.endpoints import admin_endpoint, endpoint_named
from batcher.config.files import read_config
from batcher.config.keys import read_admin_key
from batcher.transport.endpoint import Endpoint, Secret, shown_url

if TYPE_CHECKING:
    from batcher.transport.live.admin_reports import Days


def fetch_reports(
    name: str, config: str | None, days: "Days", say: Callable[[str], object]
) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """The reports of usage and of costs of the endpoint `name`: their address, and JSON.

    Raises `ConfigurationError` or `AccessRefused` before anything is sent where address or key
    are not known, and else what `fetch_report` raises. `say` is told of each wait.
    """
    endpoint = admin_endpoint(endpoint_named(name, read_config(config).endpoints))
    return asyncio.run(_fetch(endpoint, read_admin_key(endpoint), days, say))


async def _fetch(
    endpoint: Endpoint, key: Secret, days: "Days", say: Callable[[str], object]
) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    from batcher.transport.live import admin_reports as admin  # noqa: PLC0415 - aiohttp, late
    from batcher.transport.live.client import HttpClient  # noqa: PLC0415 - aiohttp, late

    clock = SystemClock()
    client = HttpClient(endpoint, key, clock)
    try:
        usage, costs = [
            (
                shown_url(endpoint.report_url(report)),
                await admin.fetch_report(client, endpoint, report, days, clock, say),
            )
            for report in (admin.USAGE, admin.COSTS)
        ]
    finally:
        await client.close()
    return usage, costs
