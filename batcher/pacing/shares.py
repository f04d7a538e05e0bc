"""How several workers share one quota. Pure: everybody computes the same from the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_IDLE_PART: Final = 0.05  # of an equal share: what an idle worker keeps, to start with


def water_fill(demands: Sequence[float]) -> list[float]:
    """The part of the quota for each worker, in the order of `demands`; sums up to 1.

    A demand is the part of the quota that the worker could use, from 0 to 1. Nobody gets more
    than that while others want it; what nobody wants is spread over all, so that a worker can
    start at once when rows come.
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


@dataclass(frozen=True, slots=True)
class Claim:
    """What one worker wants of a quota, and the share that it takes; parts of the whole."""

    demand: float
    share: float


def next_share(claims: Mapping[int, Claim], worker: int) -> float:
    """The share that `worker`, one of `claims`, takes from now on; above 0, at most 1.

    The claims of others are as old as their last renewal, so a share grows only into what
    the others have given up, and shrinks at once: together they never take more than there
    is, but for two that grow at the same moment, until they look again.
    """
    order = sorted(claims)
    fair = water_fill([claims[name].demand for name in order])[order.index(worker)]
    if fair <= claims[worker].share:
        return fair
    left = 1.0 - sum(claim.share for name, claim in claims.items() if name != worker)
    return min(fair, max(left, _IDLE_PART / len(claims)))
