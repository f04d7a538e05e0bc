"""Workers, their pacers and a provider, on a virtual clock: scenarios and what came of them."""

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from batcher.pacing.limits import Claim, Expected, QuotaLimits, next_share
from batcher.pacing.pacer import Pacer
from batcher.pacing.pool import Refusal
from tests.pacing.provider import Provider

MODEL = "claude-sonnet-5"
MAX_TOKENS = 4096
ROUND_TRIP = 0.1
PROMPTLY, AT_END, STALE = "promptly", "at end", "stale"  # when headers reach the client


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    limits: tuple[float, float, float] = (4_000, 2_000_000, 400_000)
    burst_seconds: tuple[float, float, float] = (60, 60, 60)
    binding: int = 2  # the bucket that binds: 0 requests, 1 input, 2 output
    mean_input: float = 1_000
    mean_output: float = 400
    output_sigma: float = 0.8
    seconds: float = 1_800
    rows: float = math.inf
    dropped: float = 300
    concurrency: int = 400
    overload: Callable[[float], float] = lambda _: 0.005  # the share of 529 at a moment
    estimate_factor: float = 1.1
    headers: str = PROMPTLY
    speaks: bool = True
    configured: QuotaLimits = field(default_factory=QuotaLimits)
    other_user: float = 0.0  # takes this part of the quota, every other minute
    other_always: bool = False  # or every minute
    resize: tuple[tuple[float, float], ...] = ()  # (moment, factor)
    workers: int = 1
    idle: int = 0
    most_at_once: tuple[tuple[float, int], ...] = ()  # (from when, how many)
    names_moment: bool = True  # whether a refusal says when to come again


@dataclass(slots=True)
class Result:
    """Counted after the first minutes; `refused_at` are the moments of 429s.

    `admitted` counts per 10 seconds, `used_between` is the part of the binding quota's refill
    that did not run over between two moments, multiples of ten.
    """

    used: float = 0.0
    sent: int = 0
    last_sent: float = 0.0
    overloaded: int = 0
    refused_at: list[float] = field(default_factory=list)
    admitted: list[int] = field(default_factory=list)
    used_between: Callable[[float, float], float] = lambda *_: 0.0
    busy_between: Callable[[float, float], float] = lambda *_: 0.0

    @property
    def refused_share(self) -> float:
        return len(self.refused_at) / self.sent

    def refused_after(self, moment: float) -> int:
        return sum(at > moment for at in self.refused_at)


class Worker:
    def __init__(self, market: "Market", number: int) -> None:
        self.market = market
        self.pacer = Pacer(market.scenario.configured, market.scenario.concurrency, 0.0)
        self.is_idle = number < market.scenario.idle
        self.in_flight = 0
        self.later: list[tuple[float, int, tuple]] = []
        self.row = None
        self.expected = Expected(0.0, 0.0)
        self.wake_at = math.inf
        self.first = True

    def work(self, now: float) -> None:
        """Send what may go; make sure to be woken when more may."""
        market, pacer = self.market, self.pacer
        while self.in_flight < pacer.concurrency.allowed:
            if self.first and self.in_flight:
                return  # the first row of a model goes alone
            if self.row is None:
                self.row = self._next_row(now)
                if self.row is None:
                    return
                self.expected = pacer.expect(MODEL, self.row[0], MAX_TOKENS)
            expected = self.expected
            wait = pacer.may_send(MODEL, expected, now)
            if wait > 0.0:
                if not now < self.wake_at <= now + wait:
                    self.wake_at = now + wait
                    market.at(now + wait, self.wake)
                return
            row, self.row = self.row, None
            self.in_flight += 1
            market.send(self, row, pacer.sent(MODEL, expected, now), now)

    def wake(self, now: float) -> None:
        if now >= self.wake_at:
            self.wake_at = math.inf
        self.work(now)

    def _next_row(self, now: float):
        if self.later and self.later[0][0] <= now:
            return heapq.heappop(self.later)[2]
        return None if self.is_idle else self.market.new_row()

    def again(self, row: tuple, due: float) -> None:
        self.market.order += 1
        heapq.heappush(self.later, (due, self.market.order, row))
        self.market.at(due, self.wake)


class Market:
    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.random = random.Random(seed)
        self.provider = Provider(
            scenario.limits, scenario.burst_seconds, counted_from=scenario.dropped,
            speaks=scenario.speaks,
        )  # fmt: skip
        self.desk = Desk(scenario.most_at_once)
        self.events: list[tuple] = []
        self.order = 0
        self.rows = scenario.rows
        self.result = Result()
        self.result.admitted = [0] * (int(scenario.seconds) // 10 + 1)
        self.claims: dict[int, Claim] = {}
        self.workers = [Worker(self, number) for number in range(scenario.workers)]
        sigma = scenario.output_sigma
        self._mu_output = _mu(scenario.mean_output, sigma)
        self._mu_input = _mu(scenario.mean_input, 0.5)

    def at(self, moment: float, act, *arguments) -> None:
        self.order += 1
        heapq.heappush(self.events, (moment, self.order, act, arguments))

    def run(self) -> Result:
        scenario = self.scenario
        for worker in self.workers:
            self.at(0.0, worker.work)
        for moment, factor in scenario.resize:
            self.at(moment, lambda now, factor=factor: self.provider.resize(factor, now))
        if scenario.other_user:
            self.at(0.5, self._other_user)
        for number in range(scenario.workers):  # nobody looks when another does
            self.at(0.01 + number * 0.23, self._share, number)
        marks = dict.fromkeys(range(0, int(scenario.seconds) + 1, 10))
        for moment in marks:
            self.at(moment, self._mark, marks)
        events, pop = self.events, heapq.heappop
        while events and events[0][0] <= scenario.seconds:
            moment, _, act, arguments = pop(events)
            act(*arguments, moment)
        for bucket in self.provider.buckets:
            bucket.advance(scenario.seconds)
        self.result.used = self.provider.buckets[scenario.binding].used
        self.result.used_between = lambda start, end: _between(marks, start, end)
        self.result.busy_between = lambda start, end: _busy(marks, start, end)
        return self.result

    def _mark(self, marks: dict, now: float) -> None:
        bucket = self.provider.buckets[self.scenario.binding]
        bucket.advance(now)
        self.desk.advance(now)
        marks[int(now)] = (bucket.lost, bucket.refill, self.desk.busy, self.desk.places)

    def new_row(self) -> tuple | None:
        """Body bytes, input tokens, output tokens, seconds to the first token, tokens/s."""
        if self.rows <= 0:
            return None
        self.rows -= 1
        draw, scenario = self.random, self.scenario
        tokens = max(draw.lognormvariate(self._mu_input, 0.5), 1.0)
        output = min(draw.lognormvariate(self._mu_output, scenario.output_sigma), MAX_TOKENS)
        noise = draw.gauss(1.0, 0.15)
        body_bytes = max(int(tokens * 3 * scenario.estimate_factor * noise), 30)
        first = draw.lognormvariate(0.0, 0.3)
        return body_bytes, tokens, max(output, 1.0), first, draw.uniform(45, 75), [0]

    def send(self, worker: Worker, row: tuple, reservation, now: float) -> None:
        self.result.last_sent = now
        if now >= self.scenario.dropped:
            self.result.sent += 1
        if self.random.random() < self.scenario.overload(now):
            self.at(now + ROUND_TRIP, self._overloaded, worker, row, reservation)
            return
        is_full = not self.desk.admits(now)
        seconds = 1 if is_full else self.provider.admit(row[1], now)
        if seconds:
            reading = self.provider.headers(now)
            self.at(now + ROUND_TRIP, self._refused, worker, row, reservation, seconds, reading)
            return
        self.desk.taken += 1
        self.result.admitted[int(now // 10)] += 1
        stale = self.provider.headers(now) if self.scenario.headers == STALE else None
        self.at(now + row[3], self._first_token, worker, row, reservation, stale)

    def _overloaded(self, worker, row, reservation, now) -> None:
        if now >= self.scenario.dropped:
            self.result.overloaded += 1
        worker.in_flight -= 1
        worker.pacer.refunded(reservation)
        worker.pacer.concurrency.bad(now)
        row[5][0] += 1
        worker.again(row, now + min(30.0, 0.5 * 2.0 ** row[5][0]) * self.random.random())
        worker.work(now)

    def _refused(self, worker, row, reservation, seconds, reading, now) -> None:
        if now >= self.scenario.dropped:
            self.result.refused_at.append(now)
        worker.in_flight -= 1
        if reading is not None:
            worker.pacer.reading(MODEL, reading, now)
        moment = seconds if self.scenario.names_moment else None
        worker.pacer.refused(reservation, Refusal(moment, self.random.random()), now)
        worker.again(row, now + (moment or 0.0) + self.random.random() * 2)
        worker.work(now)

    def _first_token(self, worker, row, reservation, stale, now) -> None:
        self.provider.produce(row[4], now)
        if self.scenario.headers == PROMPTLY and worker.pacer.wants_reading(MODEL, now):
            self._read(worker, self.provider.headers(now), now)
            worker.work(now)
        self.at(now + row[2] / row[4], self._ended, worker, row, reservation, stale)

    def _ended(self, worker, row, reservation, stale, now) -> None:
        self.provider.produce(-row[4], now)
        self.desk.advance(now)
        self.desk.taken -= 1
        worker.in_flight -= 1
        worker.first = False
        if self.scenario.headers != PROMPTLY and worker.pacer.wants_reading(MODEL, now):
            self._read(worker, stale or self.provider.headers(now), now)
        worker.pacer.settled(reservation, Expected(row[1], row[2]), now)
        worker.pacer.concurrency.good(now)
        if worker.wake_at == math.inf:
            worker.work(now)

    def _read(self, worker, reading, now) -> None:
        worker.first = False
        if reading is not None:
            worker.pacer.reading(MODEL, reading, now)

    def _other_user(self, now: float) -> None:
        """Takes its part twice a second."""
        self.at(now + 0.5, self._other_user)
        if self.scenario.other_always or int(now // 60) % 2 == 0:
            part = self.scenario.other_user / 120
            for bucket in self.provider.buckets:
                bucket.advance(now)
            requests, tokens, output = (b.per_minute * part for b in self.provider.buckets)
            self.provider.take(requests, tokens, output)

    def _share(self, number: int, now: float) -> None:
        """What a worker does every second: see what the others told, take its share, tell."""
        if self.scenario.workers == 1:
            return
        self.at(now + 1.0, self._share, number)
        pacer = self.workers[number].pacer
        demand, before = pacer.demands(now).get(MODEL), self.claims.get(number)
        if demand is None:
            return
        known = Claim(1.0, 0.0) if before is None else Claim(demand, before.share)
        share = next_share({**self.claims, number: known}, number)
        pacer.take_share(MODEL, share)
        self.claims[number] = Claim(known.demand, share)
        self.workers[number].work(now)


class Desk:
    """Where requests are worked on: at most so many at once, `(from when, how many)`."""

    def __init__(self, most_at_once: tuple[tuple[float, int], ...]) -> None:
        self._most_at_once = most_at_once
        self.taken = 0
        self.busy = 0.0  # places times seconds
        self.places = 0.0
        self._at = 0.0

    def most(self, now: float) -> int | None:
        """How many there may be; `None`: as many as like."""
        return next((n for since, n in reversed(self._most_at_once) if since <= now), None)

    def admits(self, now: float) -> bool:
        self.advance(now)
        most = self.most(now)
        return most is None or self.taken < most

    def advance(self, now: float) -> None:
        most = self.most(self._at) or 1
        self.busy += min(self.taken, most) * (now - self._at)
        self.places += most * (now - self._at)
        self._at = now


def simulate(scenario: Scenario, seed: int) -> Result:
    return Market(scenario, seed).run()


def _mu(mean: float, sigma: float) -> float:
    return math.log(mean) - sigma * sigma / 2


def _between(marks: dict, start: float, end: float) -> float:
    lost = marks[int(end)][0] - marks[int(start)][0]
    return 1 - lost / (marks[int(end)][1] - marks[int(start)][1])


def _busy(marks: dict, start: float, end: float) -> float:
    return (marks[int(end)][2] - marks[int(start)][2]) / (
        marks[int(end)][3] - marks[int(start)][3]
    )
