"""From a row to a request: the row forms of the contract, completed by the job's settings."""

from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batcher.errors import ConfigurationError
from batcher.messages.request import BadRow, Request, needs_stream, params_hash
from batcher.preflight.rules import Problem
from batcher.rows.batch import Reason, RowProblem, bad_row
from batcher.rows.build.attachments import (
    ATTACHMENTS,
    blocks_to_fill,
    fill_in,
    with_attachments,
)
from batcher.rows.build.body import (
    BETAS,
    FIELDS,
    OWN_COLUMNS,
    body_of_line,
    check_body,
    encoded_body,
    is_beta_name,
    json_columns,
    no_prompt,
    params_of_line,
    params_of_record,
    present,
    prompt_messages,
    row_betas,
    row_custom_id,
    said,
    tool_choice_object,
    whole_numbers,
    within_limit,
)
from batcher.rows.build.field_names import RowNames, not_sent_words
from batcher.rows.build.settings import RequestSettings
from batcher.rows.build.shapes import (
    CONVERSATIONS,
    Translator,
    chat_names,
    is_batch_line,
    is_chat,
    is_chat_body,
    is_plain,
    is_spoken,
    is_turns,
)
from batcher.rows.read.parse import (
    as_it_came,
    kind,
    parse_row,
    quotes_of,
    repeats_a_field,
)

if TYPE_CHECKING:
    from batcher.rows.build.template import Conversation, RowTemplate

# Says what is known to be wrong with a body and the row's beta names; None: nothing.
Preflight = Callable[[dict[str, Any], tuple[str, ...]], Problem | None]

PROMPT_COLUMNS: Final = frozenset(
    {"params", "messages", "prompt"}
)  # one of them is a row's prompt
ID_COLUMNS: Final = ("custom_id", "id")


# From a row as it came to the text of its body.
_TextOf = Callable[[Any], bytes]

_LARGE_BYTES: Final = 2**20  # from here on copies of a row count
# Quotes around the body: of a bare one, and of `{"custom_id": "…", "params": …}`.
_AROUND: Final = frozenset({0, 6})
_JSON_COLUMNS: Final = frozenset((*FIELDS, "params", *OWN_COLUMNS))


class RequestBuilder:
    """Makes requests of rows; `preflight` judges each finished body, `None` lets all pass.

    Raises `ConfigurationError` when the prompt template or a beta name is wrong.
    """

    def __init__(self, settings: RequestSettings, preflight: Preflight | None = None) -> None:
        self.settings = settings
        self._preflight = preflight
        self._defaults = settings.defaults
        self._fields = (FIELDS.keys() | {*settings.pass_fields}) - {*settings.ignored}
        self._attachments = {*ATTACHMENTS} - {*settings.ignored}
        self._prompt_fields = self._fields - set(OWN_COLUMNS)
        self._template = _conversation(settings) if settings.has_template else None
        self._system = _system(settings.system) if "{" in (settings.system or "") else None
        if self._system is not None:
            del self._defaults["system"]
        self.translator = Translator(settings)
        self.repeated_rows = 0  # lines seen that name a field twice
        self.names = RowNames(self._fields, self.template_columns, settings.ignored)
        for name in settings.betas:
            if not is_beta_name(name):
                raise ConfigurationError(f"betas: {name!r:.120} is no beta name; correct it")

    @property
    def notices(self) -> list[str]:
        """What was translated, and which columns stay here, a line each; of the rows so far."""
        lines = [*self.translator.sentences, not_sent_words(self.names.not_sent)]
        return [line for line in lines if line]

    @cached_property
    def columns(self) -> frozenset[str] | None:
        """The columns that can matter, `None`: all; columnar files need no others read."""
        read = self._template_columns
        if read is None:
            return None
        pass_fields = self.settings.pass_fields
        if self._template is not None:
            return frozenset((*ID_COLUMNS, *read, *pass_fields))
        return frozenset((*ID_COLUMNS, *PROMPT_COLUMNS, *OWN_COLUMNS, *self._fields, *read))

    @property
    def attachment_columns(self) -> Collection[str]:
        """The columns that hold pictures and documents: there bytes are no text."""
        if self._template is None:
            return self._attachments - self.template_columns
        passed = self._attachments & {*self.settings.pass_fields} - self.template_columns
        return passed | self._template.file_columns

    @property
    def left_attachments(self) -> Collection[str]:
        """The columns for pictures and documents that a template leaves out."""
        if self._template is None:
            return ()
        return self._attachments - self.template_columns - {*self.settings.pass_fields}

    @cached_property
    def template_columns(self) -> frozenset[str]:
        """The columns that templates name; empty without a template."""
        placed = self._template.file_columns if self._template is not None else frozenset()
        return placed.union(*(template.columns for template in self._templates))

    @cached_property
    def prompt_columns(self) -> frozenset[str]:
        """The columns of which a file needs at least one; empty when it needs none."""
        if self._template is None:
            return frozenset(PROMPT_COLUMNS)
        return frozenset() if self._template_columns is None else self.template_columns

    @cached_property
    def _templates(self) -> "list[RowTemplate]":
        of_prompt = self._template.templates if self._template is not None else []
        return [*of_prompt, *([] if self._system is None else [self._system])]

    @cached_property
    def _template_columns(self) -> frozenset[str] | None:
        reads_all = any(template.reads_all for template in self._templates)
        return None if reads_all else self.template_columns

    def build(
        self,
        raw: bytes | dict[str, Any],
        source_id: int,
        row_number: int,
        byte_offset: int | None,
        folder: Path | None = None,
    ) -> Request | BadRow:
        """The request of one row, or why there is none.

        `raw` is a line of JSON, or the columns of a Parquet or CSV record: there a `None`
        counts as absent, and text may stand for any JSON value. Files that the row names are
        looked for in `folder`; `None` refuses them. Never raises for what a row holds.
        """
        custom_id = None
        try:
            row = parse_row(raw) if isinstance(raw, bytes) else self._columns(raw)
            custom_id = row_custom_id(row)
            body, text_of = self._body(row, raw, custom_id, row_number)
            if self._system is not None and body.get("system") is None:
                body, text_of = self._with_system(self._system, body, row, row_number), None
            check_body(body)
            if blocks := blocks_to_fill(body["messages"]):
                fill_in(blocks, folder, self.settings.attachments)
                text_of = None
            betas = self._betas(row)
            self._judge(body, betas)
            text = encoded_body(body, max(len(raw), said(body))) if text_of is None else b""
            is_large = max(len(raw), len(text)) > _LARGE_BYTES
            named = params_hash(body, betas, is_large=is_large)
            model, max_tokens, streams = body["model"], body["max_tokens"], needs_stream(body)
            if text_of is None:
                self._notice_repeats(row, raw)
            else:
                quotes = quotes_of(body, is_large=is_large)
                is_odd = isinstance(raw, bytes) and raw.count(b'"') - quotes not in _AROUND
                if is_odd:
                    self._notice_repeats(row, raw)
                del row, body  # a large row is in memory twice at most
                text = as_it_came(came := text_of(raw), quotes)
                self.repeated_rows += text is not came and not is_odd
            text = within_limit(text)
        except RowProblem as problem:
            return bad_row(source_id, row_number, byte_offset, problem, custom_id)
        return Request(
            source_id=source_id,
            row_number=row_number,
            byte_offset=byte_offset,
            custom_id=custom_id,
            params_hash=named,
            model=model,
            max_tokens=max_tokens,
            body=text,
            betas=betas,
            streams=streams,
        )

    def _notice_repeats(self, row: dict[str, Any], raw: bytes | dict[str, Any]) -> None:
        """Count a line that names a field twice; of those the last one counts."""
        if not isinstance(raw, bytes) or len(raw) > _LARGE_BYTES:
            return
        if raw.count(b'"') != quotes_of(row, is_large=False) and repeats_a_field(raw):
            self.repeated_rows += 1

    def _betas(self, row: dict[str, Any]) -> tuple[str, ...]:
        """The job's beta names and the row's own, each once."""
        betas = self.settings.betas
        if BETAS not in row or (self._template and BETAS not in self.settings.pass_fields):
            return betas
        return tuple(dict.fromkeys((*betas, *row_betas(row))))

    def _judge(self, body: dict[str, Any], betas: tuple[str, ...]) -> None:
        problem = self._preflight(body, betas) if self._preflight else None
        if problem is not None:
            raise RowProblem(problem.rule, problem.message)

    def _columns(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._template is None:
            return json_columns(row, _JSON_COLUMNS)
        return json_columns(row, self.settings.pass_fields, keep_absent=True)

    def _body(
        self,
        row: dict[str, Any],
        raw: bytes | dict[str, Any],
        custom_id: str | None,
        row_number: int,
    ) -> tuple[dict[str, Any], _TextOf | None]:
        """The body, and where to find its text in a row whose own bytes can be sent."""
        if self._template is not None:
            messages = self._template.render(row, custom_id, row_number)
            passed = present(row, self.settings.pass_fields)
            fields = {n: v for n, v in passed.items() if n not in OWN_COLUMNS}
            messages = with_attachments(messages, passed, ATTACHMENTS)
            return self._completed({**fields, "messages": messages}), None
        if row.get("params") is not None:
            return self._from_params(row, raw)
        if row.get("messages") is not None:
            if is_plain(row["messages"]) and "tools" not in row:  # nearly all rows
                return self._from_messages(row, raw)
            return self._from_conversation(row, raw, "messages")
        if row.get("prompt") is not None and not is_turns(row["prompt"]):
            return self._from_prompt(row), None
        return self._from_another_shape(row, raw)

    def _from_another_shape(
        self, row: dict[str, Any], raw: bytes | dict[str, Any]
    ) -> tuple[dict[str, Any], _TextOf | None]:
        if row.get("prompt") is not None:
            return self._from_conversation(row, raw, "prompt")
        if is_batch_line(row):
            return self._from_batch_line(row, raw)
        if row.get(CONVERSATIONS) is not None:
            return self._from_conversation(row, raw, CONVERSATIONS)
        self.names.judge_prompt(row)
        raise no_prompt(row)

    # Names are judged without a call for each row: nearly all rows have known ones only.

    def _from_params(
        self, row: dict[str, Any], raw: bytes | dict[str, Any]
    ) -> tuple[dict[str, Any], _TextOf | None]:
        params = row["params"]
        if type(params) is not dict:
            raise RowProblem(
                Reason.WRONG_TYPE, f"params is {kind(params)}; it must be an object"
            )
        if not row.keys() <= self.names.of_params.known:
            self.names.of_params.judge(row)
        if is_chat_body(params):
            ours = params.keys() - chat_names()
            return self._completed(self.translator.chat(params, ours, is_whole=True)), None
        if not params.keys() <= self._fields:
            self.names.inside_params.judge(params)
        body = self._completed(params)
        if body is not params:
            return body, None
        if isinstance(raw, bytes):
            return body, params_of_line
        return body, params_of_record if type(raw["params"]) is str else None

    def _from_messages(
        self, row: dict[str, Any], raw: bytes | dict[str, Any]
    ) -> tuple[dict[str, Any], _TextOf | None]:
        fields = row
        if not row.keys() <= self._fields or None in row.values():
            if not row.keys() <= self.names.of_messages.known:
                self.names.of_messages.judge(row)
            fields = present(row, self._fields)
            if not row.keys().isdisjoint(self._attachments):
                fields = present(row, self._fields - self._attachments)
                fields["messages"] = with_attachments(row["messages"], row, self._attachments)
        body = self._completed(fields)
        return body, bytes.strip if body is row and isinstance(raw, bytes) else None

    def _from_conversation(
        self, row: dict[str, Any], raw: bytes | dict[str, Any], column: str
    ) -> tuple[dict[str, Any], _TextOf | None]:
        """The body of a row whose messages stand in `column`, ours or another API's."""
        turns = row[column]
        if column != "messages" or is_spoken(turns):
            row = {name: value for name, value in row.items() if name != column}
            row["messages"] = self.translator.spoken(turns, column)
            raw = row
        if is_chat(row):
            return self._from_chat(row), None
        return self._from_messages(row, raw)

    def _from_batch_line(
        self, row: dict[str, Any], raw: bytes | dict[str, Any]
    ) -> tuple[dict[str, Any], _TextOf | None]:
        self.names.of_batch_lines.judge(row)
        theirs = self.translator.chat_body_of(row)
        if theirs is not None:
            return self._completed(self.translator.chat(theirs, (), is_whole=True)), None
        params = row["body"]
        self.names.inside_params.judge(params)
        body = self._completed(params)
        is_sent_as_it_came = body is params and isinstance(raw, bytes)
        return body, body_of_line if is_sent_as_it_came else None

    def _from_chat(self, row: dict[str, Any]) -> dict[str, Any]:
        """The body of a row that is one of /v1/chat/completions beside other columns."""
        theirs = chat_names()
        self.names.of_messages.judge({n: v for n, v in row.items() if n not in theirs})
        ours = self._fields - theirs
        body = self.translator.chat(row, ours, is_whole=False)
        body["messages"] = with_attachments(body["messages"], row, self._attachments)
        return self._completed(body)

    def _from_prompt(self, row: dict[str, Any]) -> dict[str, Any]:
        if not row.keys() <= self.names.of_prompt.known:
            self.names.of_prompt.judge(row)
        fields = present(row, self._prompt_fields)
        return self._completed(
            {
                **fields,
                "messages": prompt_messages(row["prompt"], row, self._attachments),
            }
        )

    def _completed(self, fields: dict[str, Any]) -> dict[str, Any]:
        """`fields` itself when there is nothing to add, else a new body."""
        body = fields
        for name, value in self._defaults.items():
            if body.get(name) is None:
                body = {**body, name: value}
        choice = body.get("tool_choice")
        if type(choice) is str:
            body = {**body, "tool_choice": tool_choice_object(choice)}
        return whole_numbers(body)

    def _with_system(
        self, template: "RowTemplate", body: dict[str, Any], row: dict[str, Any], number: int
    ) -> dict[str, Any]:
        """The body with the row's own system text; none where that is blank."""
        text = template.render(row, row_custom_id(row), number)
        return {**body, "system": text} if text.strip() else body


def _conversation(settings: RequestSettings) -> "Conversation":
    from batcher.rows.build.template import Conversation  # noqa: PLC0415 - Jinja costs 40 ms

    conversation = Conversation(settings)
    if not {*settings.pass_fields} & {*ATTACHMENTS, "messages"}:  # those differ from row to row
        conversation.refuse_constant()
    return conversation


def _system(text: str | None) -> "RowTemplate | None":
    from batcher.rows.build.template import system_template  # noqa: PLC0415 - see above

    return system_template(text or "")
