"""Templates of prompts, messages and the system text: Jinja over the columns of a row.

Templates come from the job, never from row data. A name that a row lacks is an error where it
would be written.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import jinja2
from jinja2 import meta, nodes

from batcher.errors import ConfigurationError
from batcher.rows.batch import Reason, RowProblem
from batcher.rows.build.attachments import blocks_of
from batcher.rows.build.sandbox import Sandbox
from batcher.rows.build.settings import Parts, RequestSettings
from batcher.rows.build.template_limits import TemplateRefused

OWN_NAMES: Final = frozenset({"custom_id", "row_number"})  # every template can use them
ROW: Final = "row"  # all columns under one name, unless one is called so
_OF_ALL: Final = frozenset({"items", "keys", "values", "get"})  # methods, which may read any

_BRACES: Final = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
_MARKS: Final = ("{{", "{%", "{#")


class RowTemplate:
    """A compiled template; a bad one raises `ConfigurationError` with its line.

    `columns` are those that it names, `reads_all`: it may read any. `uses_rows` is whether
    two rows can give two texts. `what` is what the template is called in sentences.
    """

    def __init__(self, text: str, what: str) -> None:
        self._what = what
        self._sandbox = Sandbox()
        try:
            tree = self._sandbox.parse(text)
            hidden = _as_columns(tree, self._sandbox)
            names = meta.find_undeclared_variables(tree) | hidden
            self.columns, self.reads_all = _columns(tree, names)
            self.uses_rows = bool(names)
            self.is_plain = all(
                isinstance(part, (nodes.Output, nodes.TemplateData))
                for part in tree.find_all((nodes.Expr, nodes.Stmt))
            )
            self._template = self._sandbox.compiled(text)
            self._try_out(tree, hidden)
        except jinja2.TemplateSyntaxError as exc:
            raise ConfigurationError(
                f"{what}, line {exc.lineno}: {exc.message}; correct the template"
            ) from exc
        except (jinja2.TemplateError, TemplateRefused) as exc:
            raise ConfigurationError(f"{what}: {exc}; correct the template") from exc

    def render(self, columns: Mapping[str, Any], custom_id: str | None, row_number: int) -> str:
        """The text of one row; raises `RowProblem` when it cannot be made.

        `custom_id` is `""` where the row has none. A column wins over nothing: `custom_id` and
        `row_number` are always the row's own.
        """
        own = {"custom_id": custom_id or "", "row_number": row_number}
        self._sandbox.begin()
        try:
            return self._template.render({ROW: columns, **columns, **own})
        # a template is a program of the user's: whatever it raises is the row's problem
        except Exception as exc:
            raise RowProblem(
                Reason.TEMPLATE_ERROR, f"the {self._what} failed: {exc or type(exc).__name__}"
            ) from exc

    def _try_out(self, tree: nodes.Template, hidden: set[str]) -> None:
        """What it refuses without any column, it refuses for every row."""
        if list(meta.find_referenced_templates(tree)):
            raise TemplateRefused("it names another template, and there are none")
        try:
            self._template.render(dict.fromkeys(hidden, self._sandbox.undefined()))
        except TemplateRefused:
            raise
        except Exception:  # noqa: BLE001, S110 - most templates need their columns
            pass


# Kinds of block, each with the template of its text or the column of its files.
_Turn = list[tuple[str, RowTemplate | str]]


class Conversation:
    """The messages of a row, by the job's `prompt` or its `messages`.

    `file_columns` are those that bring images and documents to a place in them.
    """

    def __init__(self, settings: RequestSettings) -> None:
        turns = settings.messages or (("user", settings.prompt or ""),)
        what = "prompt template" if not settings.messages else "template of messages[{}]"
        self._turns = [
            (role, _turn(parts, what.format(number)), isinstance(parts, str))
            for number, (role, parts) in enumerate(turns)
        ]
        if not any(role == "user" for role, _ in turns):
            raise ConfigurationError(
                'messages: none is the user\'s; add one with role = "user"'
            )
        said = [part for _, turn, _ in self._turns for _, part in turn]
        self.templates = [part for part in said if isinstance(part, RowTemplate)]
        self.file_columns = frozenset(part for part in said if isinstance(part, str))
        if twice := self.file_columns & {*settings.pass_fields}:
            raise ConfigurationError(
                f"column {min(twice)} stands in messages and in pass: it would be sent twice"
            )
        self._text = str(turns[-1][1])

    def refuse_constant(self) -> None:
        """Raise `ConfigurationError` when every row would send the same."""
        if self.file_columns or any(template.uses_rows for template in self.templates):
            return
        braces = _BRACES.search(self._text)
        meant = braces[1] if braces else "text"
        instead = f", not {braces[0]}" if braces else " where the column text belongs"
        raise ConfigurationError(
            "the prompt template uses no column, so every row would send the same; "
            f"write {{{{ {meant} }}}}{instead}"
        )

    def render(
        self, columns: Mapping[str, Any], custom_id: str | None, row_number: int
    ) -> list[dict[str, Any]]:
        """See `RowTemplate.render`; a blank text and a column without files refuse it too."""
        messages = []
        for role, turn, is_text in self._turns:
            blocks: list[dict[str, Any]] = []
            for block_type, part in turn:
                if isinstance(part, RowTemplate):
                    text = part.render(columns, custom_id, row_number)
                    blocks.append({"type": "text", "text": _not_blank(text)})
                else:
                    blocks += _files(block_type, part, columns.get(part))
            messages.append({"role": role, "content": blocks[0]["text"] if is_text else blocks})
        return messages


def _turn(parts: Parts, what: str) -> _Turn:
    named: _Turn = []
    for kind, part in (("text", parts),) if isinstance(parts, str) else parts:
        named.append((kind, RowTemplate(part, what) if kind == "text" else part))
    return named


def _not_blank(text: str) -> str:
    if not text.strip():
        raise RowProblem(Reason.NO_PROMPT, "the prompt template gave an empty prompt")
    return text


def _files(block_type: str, column: str, value: object) -> list[dict[str, Any]]:
    blocks = blocks_of(block_type, column, value)
    if not blocks:
        raise RowProblem(
            Reason.TEMPLATE_ERROR, f"column {column!r:.60} holds no {block_type} for messages"
        )
    return blocks


def system_template(text: str) -> RowTemplate | None:
    """The template that the job's `system` is; `None` for a text without Jinja's marks.

    Raises `ConfigurationError` for one that uses no column.
    """
    if not any(mark in text for mark in _MARKS):
        return None
    template = RowTemplate(text, "system template")
    if not (template.uses_rows or template.is_plain):
        raise ConfigurationError(
            "the system template uses no column; write a text without {{ }}, or put it "
            "between {% raw %} and {% endraw %}"
        )
    return template


def _as_columns(tree: nodes.Template, sandbox: Sandbox) -> set[str]:
    """Names of functions that are not called: columns of these names are meant."""
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    return {
        name.name
        for name in tree.find_all(nodes.Name)
        if name.ctx == "load" and name.name in sandbox.globals and id(name) not in called
    }


def _columns(tree: nodes.Template, names: set[str]) -> tuple[frozenset[str], bool]:
    columns = names - OWN_NAMES - {ROW}
    if ROW not in names:
        return frozenset(columns), False
    read = {_column_of_row(part) for part in tree.find_all((nodes.Getattr, nodes.Getitem))}
    uses = sum(name.name == ROW for name in tree.find_all(nodes.Name))
    known = sum(_column_of_row(part) is not None for part in tree.find_all(nodes.Expr))
    return frozenset((*columns, ROW, *filter(None, read))), uses > known


def _column_of_row(part: nodes.Node) -> str | None:
    """The column that `row.name` or `row["name"]` reads."""
    match part:
        case nodes.Getattr(node=nodes.Name(name="row"), attr=str() as name) if (
            name not in _OF_ALL
        ):
            return name
        case nodes.Getitem(node=nodes.Name(name="row"), arg=nodes.Const(value=str() as name)):
            return name
        case _:
            return None
