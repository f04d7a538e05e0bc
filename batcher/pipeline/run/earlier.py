"""Where a request stood when its process ended: its legs, and what was to be replaced."""

from collections.abc import Sequence

from batcher.ledger.resume import EarlierAnswer
from batcher.messages.attempt import Purpose
from batcher.messages.legs import CALLS_TOOLS, LEG_STOP_REASONS, Leg
from batcher.pipeline.engine.policies import AnswerPolicy
from batcher.pipeline.engine.work import Replaced, Work


def take_up(work: Work, answers: Sequence[EarlierAnswer], policy: AnswerPolicy) -> None:
    """Give a begun request its legs, and the `max_tokens` that it had reached, back."""
    for answer in answers:
        if answer.stop_reason in LEG_STOP_REASONS:
            work.legs.append(_leg(answer))
            work.purpose = Purpose.TOOL if work.legs[-1].calls_tools else Purpose.CONTINUATION
        else:
            work.purpose = _replace(work, answer, policy)


def _leg(answer: EarlierAnswer) -> Leg:
    return Leg(
        answer.content,
        answer.text,
        answer.container_id,
        calls_tools=answer.stop_reason == CALLS_TOOLS,
        results=answer.tool_results,
    )


def _replace(work: Work, answer: EarlierAnswer, policy: AnswerPolicy) -> Purpose:
    """Only answers that `max_tokens` cut off are replaced by longer ones."""
    tokens = answer.output_tokens
    output = len(answer.content) if tokens is None else tokens
    cut_off = answer.stop_reason == "max_tokens"
    purpose = Purpose.TRUNCATION if cut_off else Purpose.INVALID
    work.replaced.append(Replaced(purpose, output))
    factor, limit = policy.choices.raise_factor, work.request.max_tokens
    if cut_off and factor is not None and limit is not None:
        higher = policy.limited(work.request, int(limit * factor))
        work.raise_max_tokens(max(higher, limit))
    return purpose
