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
from batcher.rows.build.sandbox import Sandbox
from batcher.rows.build.settings import RequestSettings
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


class Conversation:
    """The messages of a row, by the job's `prompt` or its `messages`."""

    def __init__(self, settings: RequestSettings) -> None:
        turns = settings.messages or (("user", settings.prompt or ""),)
        what = "prompt template" if not settings.messages else "template of messages[{}]"
        self.turns = [
            (role, RowTemplate(text, what.format(number)))
            for number, (role, text) in enumerate(turns)
        ]
        if not any(role == "user" for role, _ in turns):
            raise ConfigurationError(
                'messages: none is the user\'s; add one with role = "user"'
            )
        self.templates = [template for _, template in self.turns]
        self._text = turns[-1][1]

    def refuse_constant(self) -> None:
        """Raise `ConfigurationError` when every row would send the same."""
        if any(template.uses_rows for template in self.templates):
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
        """See `RowTemplate.render`; a blank text refuses the row too."""
        messages = []
        for role, template in self.turns:
            text = template.render(columns, custom_id, row_number)
            if not text.strip():
                raise RowProblem(Reason.NO_PROMPT, "the prompt template gave an empty prompt")
            messages.append({"role": role, "content": text})
        return messages


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
