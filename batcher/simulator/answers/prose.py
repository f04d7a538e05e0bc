"""Readable filler for answers: about four characters per token, the same for each request."""

from typing import Final

_SENTENCES: Final = (
    "The short answer is yes, with one condition that is easy to check.",
    "Most of the difference comes from the first step, not from the last.",
    "A small example makes this clearer than any definition.",
    "It helps to look at the extremes before looking at the average.",
    "Both sides of the comparison agree on the facts and differ in the weights.",
    "The usual mistake is to measure the effort instead of the result.",
    "Seen over a whole year the pattern is steady and rather calm.",
    "Nothing here depends on the order in which the parts are read.",
    "The second option costs less and asks for a little more care.",
    "What remains is a question of taste, and tastes may differ.",
)
_PAGE: Final = " ".join(_SENTENCES) + " "
_PROMPT_SHOWN: Final = 60


def answer_text(prompt: str, *, tokens: int, offset: int, is_cut: bool) -> str:
    """About `tokens` tokens of text on `prompt`; `is_cut` leaves the end open."""
    length = max(4 * tokens, 1)
    shown = " ".join(prompt[: 2 * _PROMPT_SHOWN].split())[:_PROMPT_SHOWN].strip()
    opening = f"On \u201c{shown}\u201d: " if shown else ""
    start = sum(len(sentence) + 1 for sentence in _SENTENCES[: offset % len(_SENTENCES)])
    repeats = (start + length) // len(_PAGE) + 1
    text = (opening + (_PAGE * repeats)[start:])[:length]
    return text if is_cut else text.rpartition(" ")[0].rstrip(".,") + "."
