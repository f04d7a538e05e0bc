"""How several workers share one quota. Pure: everybody computes the same from the same."""

from collections.abc import Sequence
from typing import Final

_IDLE_PART: Final = 0.05  # of an equal share: what an idle worker keeps, to start with


def water_fill(demands: Sequence[float]) -> list[float]:
    """The part of the quota for each worker, in the order of `demands`; sums up to 1.

    A demand is the part of the quota that the worker could use, from 0 to 1. Nobody gets more
    than that while others want it; what nobody wants is spread over all, so that a worker can
    start at once when rows come. Source: reliability, 1.3.
    """
    count = len(demands)
    if not count:
        return []
    least = _IDLE_PART / count
    wanted = [min(max(demand, least), 1.0) for demand in demands]
    shares = [0.0] * count
    left, open_count = 1.0, count
    for index in sorted(range(count), key=wanted.__getitem__):
        shares[index] = min(wanted[index], left / open_count)
        left -= shares[index]
        open_count -= 1
    return [share + left / count for share in shares]
