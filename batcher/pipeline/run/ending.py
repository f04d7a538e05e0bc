"""With which code a run ends."""

import signal
from collections.abc import Mapping
from typing import Final

from batcher.errors import BatcherError, Busy
from batcher.pipeline.run.signals import Signals

_ROWS_WITHOUT_ANSWER: Final = 65
_ABORTED: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


def exit_code(
    error: BaseException | None,
    signals: Signals,
    counts: Mapping[str, int],
    *,
    left: bool,
    out_of_time: bool,
) -> int:
    """The code (design, section 6). `counts` are rows without an answer, `left`: some wait."""
    if isinstance(error, BatcherError):
        return error.exit_code
    if signals.aborted_by is not None:
        return _ABORTED[signals.aborted_by]
    if error is not None:
        return BatcherError.exit_code
    if left and (signals.received is not None or out_of_time):
        return Busy.exit_code
    return _ROWS_WITHOUT_ANSWER if counts else 0
