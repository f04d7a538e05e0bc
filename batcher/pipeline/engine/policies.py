"""What an answer leads to: it is done, goes on, is asked for again, or counts as failed. Pure.

`end_turn`, `stop_sequence` and `tool_use` are done, unless a tool of the job was called;
`pause_turn` asks for a further leg; `max_tokens` and `model_context_window_exceeded` cut an
answer off; `refusal` is final. What is not known is kept as it came.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import msgspec

from batcher.messages.answer import Answer
from batcher.messages.legs import (
    CALLS_TOOLS,
    CONTINUED,
    Leg,
    corrected,
    joined_text,
    leg_of,
    tool_calls,
)
from batcher.messages.request import Purpose, Request
from batcher.pipeline.choices import AnswerChoices, Tool
from batcher.pipeline.engine.validate import NOT_ASKED, AnswerValidator, Validity
from batcher.pipeline.engine.work import Replaced, Work

TRUNCATED: Final = frozenset({"max_tokens", "model_context_window_exceeded"})
KNOWN_STOP_REASONS: Final = (
    TRUNCATED | CONTINUED | {CALLS_TOOLS, "end_turn", "stop_sequence", "refusal"}
)

LargestOutput = Callable[[str, tuple[str, ...]], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPolicy:
    """The choices with what it takes to follow them.

    `largest_output` gives the most `max_tokens` that a model is known to take, with the beta
    names of a request; `None`: not known.
    """

    choices: AnswerChoices = field(default_factory=AnswerChoices)
    validator: AnswerValidator = field(default_factory=AnswerValidator)
    largest_output: LargestOutput | None = None

    def limited(self, request: Request, max_tokens: int) -> int:
        """At most what the model of `request` is known to take."""
        largest = self.largest_output
        most = largest(request.model, request.betas) if largest else None
        return max_tokens if most is None else min(max_tokens, most)


def answer_policy(choices: AnswerChoices, largest_output: LargestOutput | None) -> AnswerPolicy:
    """Everything that answers are judged by; raises `ConfigurationError` for a wrong schema."""
    validator = AnswerValidator(choices.schema)
    return AnswerPolicy(choices=choices, validator=validator, largest_output=largest_output)


class Keep(msgspec.Struct, frozen=True, gc=False):
    """The answer is the row's own."""

    validity: Validity = NOT_ASKED


class NextLeg(msgspec.Struct, frozen=True, gc=False):
    """The row's request goes on with a further leg, at once."""

    purpose: Purpose


class Better(msgspec.Struct, frozen=True, gc=False):
    """The answer is kept in the ledger, and another is asked for in its place, at once.

    `max_tokens` is the new limit, `None`: as before.
    """

    purpose: Purpose
    max_tokens: int | None = None
    validity: Validity = NOT_ASKED


class Fail(msgspec.Struct, frozen=True, gc=False):
    """The row counts as failed, although its answer was paid for."""

    reason: str
    message: str
    validity: Validity = NOT_ASKED


Ruling = Keep | NextLeg | Better | Fail


def judge(work: Work, answer: Answer, policy: AnswerPolicy, *, may_go_on: bool) -> Ruling:
    """What `answer` leads to; `may_go_on` is false when the cap of legs is reached."""
    reason = answer.stop_reason
    if may_go_on and reason in CONTINUED:
        return NextLeg(Purpose.CONTINUATION)
    if may_go_on and reason == CALLS_TOOLS and _all_known(answer, policy.choices.tools):
        return NextLeg(Purpose.TOOL)
    if reason in TRUNCATED and work.request.max_tokens != 0:  # 0 only warms a cache
        return _truncated(work, answer, policy)
    if reason in CONTINUED or reason == CALLS_TOOLS:
        return Keep()  # cut short on its way to the text that was asked for
    return _validated(work, answer, policy, may_retry=reason != "refusal")


def _all_known(answer: Answer, tools: Mapping[str, Tool]) -> bool:
    """Whether everything that the answer calls can be run here."""
    calls = tool_calls(answer.content) if tools else None
    return bool(calls) and all(call.name in tools for call in calls or ())


def _truncated(work: Work, answer: Answer, policy: AnswerPolicy) -> Ruling:
    choices = policy.choices
    if choices.fail_truncated:
        limit = work.request.max_tokens
        at = (
            f"max_tokens {limit}"
            if answer.stop_reason == "max_tokens"
            else "the context window"
        )
        return Fail("truncated", f"the answer was cut off by {at}; it is kept in v_answers_all")
    if choices.raise_factor and answer.stop_reason == "max_tokens":
        higher = _higher(work, answer, choices.raise_factor, policy)
        if higher is not None:
            return Better(Purpose.TRUNCATION, higher)
    return _validated(work, answer, policy, may_retry=False)


def _higher(work: Work, answer: Answer, factor: Fraction, policy: AnswerPolicy) -> int | None:
    """The next `max_tokens`; `None` when raising it is not possible, or did not help."""
    request, before = work.request, work.last_cut_off
    if request.max_tokens is None or (before and output_of(answer) <= before.output):
        return None
    higher = policy.limited(request, int(request.max_tokens * factor))
    return higher if higher > request.max_tokens else None


def output_of(answer: Answer) -> int:
    """How much the model wrote: tokens, or bytes where it does not say."""
    tokens = answer.usage.output_tokens if answer.usage else None
    return len(answer.content) if tokens is None else tokens


def _validated(work: Work, answer: Answer, policy: AnswerPolicy, *, may_retry: bool) -> Ruling:
    schema = policy.validator.asks(work.request.body)
    if schema is None:
        return Keep()
    text = joined_text([*work.legs, leg_of(answer)])
    validity = policy.validator.check(schema, text)
    if validity.valid is not False:
        return Keep(validity)
    choices = policy.choices
    if may_retry and work.times_replaced(Purpose.INVALID) < choices.retries:
        return Better(Purpose.INVALID, validity=validity)
    if choices.fail_invalid:
        message = f"the answer does not follow its schema: {validity.reason}"
        return Fail("invalid", message, validity)
    return Keep(validity)


def go_on(work: Work, answer: Answer, step: NextLeg | Better) -> None:
    """Make `work` ready for the attempt that `step` asks for."""
    if isinstance(step, NextLeg):
        work.go_on(leg_of(answer), step.purpose)
        return
    ask_again(work, leg_of(answer), Replaced(step.purpose, output_of(answer)), step.validity)
    if step.max_tokens is not None:
        work.raise_max_tokens(step.max_tokens)


def ask_again(work: Work, leg: Leg, replaced: Replaced, validity: Validity) -> None:
    """Ask for a better answer than that of `leg`: one that broke its schema is told why."""
    said = corrected(leg, validity.reason) if replaced.purpose is Purpose.INVALID else None
    if said is None:
        work.replace(replaced)
    else:
        work.correct(said, replaced)
