"""What a request will take from the token quotas, learned from those before it."""

from typing import Final

from batcher.pacing.limits import Expected

_BYTES_PER_TOKEN: Final = 3
_WEIGHT: Final = 0.02  # of the newest answer in a moving average
_FIRST_OUTPUT: Final = 300.0


class Average:
    """A moving average that believes the first answers more than later ones."""

    __slots__ = ("_weight", "value")

    def __init__(self, start: float, weight: float = 0.5) -> None:
        self.value = start
        self._weight = weight

    def add(self, value: float) -> None:
        """One more observation."""
        self.value += self._weight * (value - self.value)
        if self._weight > _WEIGHT:
            self._weight = max(self._weight / (1 + self._weight), _WEIGHT)


class Estimates:
    """Expected tokens of a request of one model class, before it is sent.

    Input is the body's bytes by a learned factor, which also learns what caches save; output
    is the average of like requests: same model and `max_tokens` to a power of two.
    """

    __slots__ = ("_bias", "_outputs")

    def __init__(self) -> None:
        self._bias = Average(1.0)
        self._outputs: dict[tuple[str, int], Average] = {}

    def expect(self, model: str, body_bytes: int, max_tokens: int | None) -> Expected:
        """What the request will take, cache reads excluded."""
        kind = (max_tokens or 0).bit_length()
        output = self._outputs.get((model, kind))
        if output is None:
            likely = _FIRST_OUTPUT if max_tokens is None else min(_FIRST_OUTPUT, max_tokens)
        else:
            likely = output.value
        body_tokens = body_bytes / _BYTES_PER_TOKEN
        return Expected(body_tokens * self._bias.value, likely, body_tokens, kind)

    def learn(self, model: str, expected: Expected, real: Expected) -> None:
        """What a request really took that was expected to take `expected`."""
        if not expected.body_tokens:
            return
        self._bias.add(real.input_tokens / expected.body_tokens)
        output = self._outputs.get((model, expected.kind))
        if output is None:
            self._outputs[model, expected.kind] = Average(real.output_tokens)
        else:
            output.add(real.output_tokens)
