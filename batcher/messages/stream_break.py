"""What a message that broke off is billed for at least."""

from typing import Final

from msgspec.structs import replace

from batcher.messages.answer import Answer

_CHARACTERS_PER_TOKEN: Final = 4


def billed_at_least(answer: Answer) -> Answer:
    """A broken answer with the least usage that it can be billed for.

    The output count that begins a stream is a placeholder. Tokens do not cross the space
    between words, and a token is seldom longer than a word: each word that was delivered is at
    least one, and never more than a quarter of the characters are taken for tokens.
    """
    if answer.usage is None:
        return answer
    words = min(len(answer.text.split()), len(answer.text) // _CHARACTERS_PER_TOKEN)
    reported = answer.usage.output_tokens or 0
    usage = replace(answer.usage, output_tokens=max(words, reported))
    return replace(answer, usage=usage)
