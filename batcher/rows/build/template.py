"""Prompt templates: Jinja in its immutable sandbox, over the columns of a row.

Templates come from the job, never from row data. A name that a row lacks is an error.
"""

from collections.abc import Mapping
from typing import Any, Final

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batcher.errors import ConfigurationError
from batcher.rows.batch import Reason, RowProblem

OWN_NAMES: Final = frozenset({"custom_id", "row_number"})  # every template can use them


class PromptTemplate:
    """A compiled prompt template; a bad one raises `ConfigurationError` with its line."""

    def __init__(self, text: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined,
            finalize=_refuse_null,
            keep_trailing_newline=True,
            autoescape=False,
        )
        try:
            self.columns = meta.find_undeclared_variables(environment.parse(text)) - OWN_NAMES
            self._template = environment.from_string(text)
        except jinja2.TemplateSyntaxError as exc:
            raise ConfigurationError(
                f"prompt template, line {exc.lineno}: {exc.message}; correct the template"
            ) from exc
        except jinja2.TemplateError as exc:
            raise ConfigurationError(f"prompt template: {exc}; correct the template") from exc

    def render(self, columns: Mapping[str, Any], custom_id: str | None, row_number: int) -> str:
        """The prompt of one row; raises `RowProblem` when it cannot be made or is blank.

        `custom_id` is `""` where the row has none. A column wins over nothing: `custom_id` and
        `row_number` are always the row's own.
        """
        own = {"custom_id": custom_id or "", "row_number": row_number}
        try:
            prompt = self._template.render({**columns, **own})
        # a template is a program of the user's: whatever it raises is the row's problem
        except Exception as exc:
            raise RowProblem(
                Reason.TEMPLATE_ERROR,
                f"the prompt template failed: {exc or type(exc).__name__}",
            ) from exc
        if not prompt.strip():
            raise RowProblem(Reason.NO_PROMPT, "the prompt template gave an empty prompt")
        return prompt


def _refuse_null(value: object) -> object:
    """Jinja would write "None" into the prompt, and the answer would be paid for."""
    if value is None:
        raise ValueError("a null would be written; use {{ column or '' }}")
    return value
