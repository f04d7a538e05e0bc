"""Rows in the shape of other tools: recognised, and counted for the line that says so."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from batcher.rows.batch import Reason, RowProblem
from batcher.rows.build.chat import chat_body, other_apis, untranslatable
from batcher.rows.build.settings import RequestSettings
from batcher.rows.read.parse import kind

CONVERSATIONS: Final = "conversations"
_SPEAKERS: Final = ("user", "assistant")
_OURS: Final = (*_SPEAKERS, "system")
_CHAT: Final = "OpenAI chat completions"
_BATCH_LINES: Final = "OpenAI batch lines for /v1/messages"
_SPOKEN: Final = "conversations of training data (from, value)"
_MOST_MODELS: Final = 20
_ANSWERED: Final = (
    "translated conversations end with the assistant's words: its answer goes on from there;"
    " for an answer of its own leave the last turn out"
)


class Translator:
    """Makes Messages bodies of rows in other shapes, and remembers which those were."""

    def __init__(self, settings: RequestSettings) -> None:
        self._model = settings.model
        self._models = settings.models
        self._passed = settings.pass_fields
        self._ignored = settings.ignored
        self._seen: dict[str, None] = {}
        self._replaced: dict[str, str] = {}
        self._ends_answered = False

    @property
    def sentences(self) -> list[str]:
        """What was translated so far, a line each."""
        lines = [f"translated: {shape}" for shape in self._seen]
        pairs = [f"{theirs} becomes {ours}" for theirs, ours in self._replaced.items()]
        lines += [f"models replaced: {', '.join(pairs)}"] if pairs else []
        return [*lines, _ANSWERED] if self._ends_answered else lines

    def chat_body_of(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """The body of a batch line if it is to be translated; `None`: it is a Messages body.

        Raises `RowProblem`.
        """
        body, url, method = row["body"], row["url"], row.get("method")
        if type(body) is not dict:
            raise RowProblem(Reason.WRONG_TYPE, f"body is {kind(body)}; it must be an object")
        if method not in (None, "POST"):
            raise untranslatable(f"the method is {method!r:.20}; only POST can be sent")
        if url.rstrip("/").endswith("/chat/completions"):
            return body
        if not url.rstrip("/").endswith("/v1/messages"):
            raise untranslatable(
                f"the row is made for {url:.100}; known are /v1/messages and"
                " /v1/chat/completions"
            )
        self._seen[_BATCH_LINES] = None
        return None

    def chat(
        self, body: Mapping[str, Any], ours: Iterable[str], *, is_whole: bool
    ) -> dict[str, Any]:
        """See `chat_body`, with a model of ours; the fields `ours` stay as they are.

        Raises `RowProblem`, also where there is no model of ours.
        """
        kept = {*ours, *self._passed}
        left = kept | {*self._ignored}
        made = chat_body({n: v for n, v in body.items() if n not in left}, is_whole=is_whole)
        made |= {n: v for n, v in body.items() if n in kept and v is not None}
        theirs = body.get("model")
        if theirs is not None:
            made["model"] = self.our_model(theirs)
        self._seen[_CHAT] = None
        self._note_end(made["messages"])
        return made

    def _note_end(self, messages: list[dict[str, Any]]) -> None:
        """Remember that somebody's last words are the assistant's, as in training data."""
        if messages and messages[-1]["role"] == "assistant":
            self._ends_answered = True

    def our_model(self, theirs: object) -> str:
        """The model that stands for one of another API; raises `RowProblem` for none."""
        ours = self._models.get(theirs) if type(theirs) is str else None
        ours = ours or self._model
        if ours is None:
            raise RowProblem(
                Reason.MISSING_MODEL,
                f"{theirs!r:.80} is a model of another API; name one of yours with --model, or"
                " by [models] map",
            )
        if len(self._replaced) < _MOST_MODELS and type(theirs) is str and theirs != ours:
            self._replaced[theirs] = ours
        return ours

    def spoken(self, turns: object, column: str) -> list[dict[str, Any]]:
        """The messages that `column` holds, of turns with `from` and `value` or as they are.

        Raises `RowProblem`.
        """
        if type(turns) is list and not is_spoken(turns):
            self._seen[f"messages in column {column}"] = None
            return turns
        if type(turns) is not list:
            raise RowProblem(Reason.WRONG_TYPE, f"the turns are {kind(turns)}, not a list")
        roles = other_apis().conversation.roles
        messages: list[dict[str, Any]] = []
        for turn in turns:
            speaker = turn.get("from", turn.get("role")) if type(turn) is dict else None
            role = roles.get(speaker.lower()) if type(speaker) is str else None
            if role is None:
                raise untranslatable(f"a turn is from {speaker!r:.60}, who has no role here")
            messages.append({"role": role, "content": turn.get("value", turn.get("content"))})
        self._seen[_SPOKEN] = None
        self._note_end(messages)
        return messages


@cache
def chat_names() -> frozenset[str]:
    """The fields that mean something in a body for /v1/chat/completions."""
    table = other_apis().chat
    return frozenset({"model", "messages", *table.fields, *table.defaults, *table.refused})


def is_batch_line(row: Mapping[str, Any]) -> bool:
    """Whether a row is a line of an OpenAI batch file."""
    return type(row.get("url")) is str and row.get("body") is not None


def foreign_model(row: Mapping[str, Any]) -> object:
    """The model that a row of /v1/chat/completions names; `None`: none, or no such row."""
    if (params := row.get("params")) is not None:
        return params.get("model") if type(params) is dict and is_chat_body(params) else None
    if row.get("messages") is not None:
        return row.get("model") if is_chat(row) else None
    body = row.get("body")
    is_theirs = is_batch_line(row) and "chat/completions" in row["url"] and type(body) is dict
    return body.get("model") if is_theirs else None  # type: ignore[union-attr]


def is_turns(value: object) -> bool:
    """Whether this is a list whose first entry is an object, as messages are."""
    return type(value) is list and bool(value) and type(value[0]) is dict


def is_spoken(turns: object) -> bool:
    """Whether these are turns with `from` and `value`."""
    return is_turns(turns) and "from" in turns[0]  # type: ignore[index]


def is_plain(messages: object) -> bool:
    """Whether these are turns of ours with texts, and nothing else: told at once."""
    if type(messages) is not list:
        return False
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return False
        if type(message.get("content")) is not str or message.get("role") not in _SPEAKERS:
            return False
    return True


def is_chat(row: Mapping[str, Any]) -> bool:
    """Whether the messages or tools of a row can only be those of /v1/chat/completions."""
    messages = row["messages"]
    if type(messages) is not list or not messages:
        return False
    return _first_is_system(messages) or _are_chat(messages) or _has_functions(row)


def is_chat_body(body: Mapping[str, Any]) -> bool:
    """Whether a whole body can only be one for /v1/chat/completions."""
    messages = body.get("messages")
    if messages is None or (is_plain(messages) and "tools" not in body):  # nearly all
        return False
    return is_chat(body)


def _first_is_system(messages: list[Any]) -> bool:
    """Whether a system message of texts stands first, which the Messages API has not."""
    first = messages[0]
    if type(first) is not dict or first.get("role") != "system":
        return False
    content = first.get("content")
    blocks = content if type(content) is list else []
    are_texts = all(type(b) is dict and b.keys() == {"type", "text"} for b in blocks)
    return type(content) is str or (bool(blocks) and are_texts)


def _are_chat(messages: list[Any]) -> bool:
    for message in messages:
        if type(message) is not dict:
            return False
        content = message.get("content")
        if message.get("role") in _OURS and type(content) is str and len(message) == 2:
            continue
        if _is_chat_message(message, content):
            return True
    return False


def _is_chat_message(message: dict[str, Any], content: object) -> bool:
    table = other_apis().chat
    role = message.get("role")
    if (type(role) is str and role in table.roles) or not table.message_fields.isdisjoint(
        message
    ):
        return True
    blocks = content if type(content) is list else []
    return any(_is_chat_block(block, table.blocks) for block in blocks if type(block) is dict)


def _is_chat_block(block: dict[str, Any], theirs: frozenset[str]) -> bool:
    """Whether the kind of a block is theirs, or it has a field for one, as tables fill up."""
    named = block.get("type")
    return not theirs.isdisjoint(block) or (type(named) is str and named in theirs)


def _has_functions(row: Mapping[str, Any]) -> bool:
    tools = row.get("tools")
    first = tools[0] if type(tools) is list and tools else None
    return type(first) is dict and first.get("type") == "function" and "function" in first
