"""Columns that are left out of requests: said once, and refused where they look like fields."""

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from batcher.rows.batch import Reason, RowProblem
from batcher.rows.build.body import FIELDS

MISNAMED_SHARE: Final = Fraction(1, 100)  # in more rows than that it is the input that is wrong
LEAST_LETTERS: Final = 6  # of shorter names one wrong letter makes another word
_MOST_NAMES: Final = 1_000  # that are remembered; rows may have any
_SHOWN: Final = 10
_SHOWN_PROBLEMS: Final = 3
_PROMPTS: Final = frozenset({"params", "messages", "prompt"})
_ATTACHED: Final = ("images", "image", "documents")
_IDS: Final = frozenset({"custom_id", "id"})
_SEPARATORS: Final = re.compile(r"[\s_-]+")


class NameTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of other APIs: what is meant by them, and those without a counterpart."""

    meant: dict[str, str]
    unknown: dict[str, tuple[str, ...]]


_NO_TABLE: Final = NameTable({}, {"names": ()})


@cache
def shipped_names() -> NameTable:
    """The table of this release."""
    text = (files("batcher") / "data" / "field_names.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), NameTable)


class FieldNames:
    """Judges the columns beside one form of row; `known` are those that need no judgement.

    `targets` are the names that others may resemble; `misplaced` are columns that mean
    something elsewhere and are lost here, with the words for it.
    """

    def __init__(
        self,
        known: Iterable[str],
        targets: Iterable[str],
        misplaced: Mapping[str, str],
        table: NameTable | None = None,
    ) -> None:
        table = table or shipped_names()
        self.known = {*known}
        self.not_sent: dict[str, None] = {}
        self._misplaced = misplaced
        self._targets = {_plain(name): name for name in targets}
        self._meant = {_plain(name): meant for name, meant in table.meant.items()}
        self._unknown = {_plain(name) for name in table.unknown["names"]}

    def judge(self, row: Mapping[str, Any]) -> None:
        """Raise `RowProblem` for columns of `row` that look like fields and have a value."""
        names = [name for name in row if name not in self.known]
        with_value = [name for name in names if row[name] not in (None, "", [])]
        problems = [words for name in with_value if (words := self.problem(name))]
        if problems:
            raise RowProblem(Reason.MISNAMED_FIELD, "; ".join(problems[:_SHOWN_PROBLEMS]))

    def meant_by(self, name: str) -> str | None:
        """The field that a column of this name resembles."""
        plain = _plain(name)
        return self._targets.get(plain) or self._near(plain)

    def problem(self, name: str) -> str | None:
        """Why a column of this name must not stay behind; `None`: it may, and is remembered."""
        if name in self.known:
            return None
        words = self._words(name)
        if words is None and len(self.not_sent) < _MOST_NAMES:
            self.known.add(name)
            self.not_sent[name] = None
        return words

    def _words(self, name: str) -> str | None:
        quoted, plain = _quoted(name), _plain(name)
        is_data = f"or say that it is data: [request] ignore = [{quoted}]"
        if name in self._misplaced:
            return f"{self._misplaced[name]}, {is_data}"
        if plain in self._unknown:
            return (
                f"{quoted} is no field of the Messages API; take it out, send it with "
                f"[request] pass = [{quoted}], {is_data}"
            )
        meant = self._targets.get(plain) or self._meant.get(plain) or self._near(plain)
        if meant is None or meant == name:
            return None
        return f"{quoted} looks like {meant}; rename it, {is_data}"

    def _near(self, plain: str) -> str | None:
        if len(plain) < LEAST_LETTERS - 1:
            return None
        return next(
            (
                name
                for known, name in self._targets.items()
                if len(known) >= LEAST_LETTERS and _one_edit(plain, known)
            ),
            None,
        )


class RowNames:
    """The columns of rows without a prompt template, by the form of the row.

    `fields` are sent, `own` are used otherwise (by the system template), `ignored` are data by
    the job's word. `inside_params` judges what is sent, and only misspelt.
    """

    def __init__(
        self, fields: Collection[str], own: Collection[str], ignored: Collection[str]
    ) -> None:
        free = {*own, *ignored, *_IDS}
        targets = [*FIELDS, "prompt", "params", "custom_id", "betas", *_ATTACHED]
        beside = {
            name: f"{name} stands beside params, where it is not sent; put it inside"
            for name in {*fields, *_ATTACHED} - free
        }
        sent = {*free, *fields, "betas"}
        self.of_params = FieldNames({*free, "params", "betas"}, targets, beside)
        self.of_batch_lines = FieldNames(
            {*free, "method", "url", "body", "betas"}, targets, beside
        )
        self.of_messages = FieldNames({*sent, *_ATTACHED}, targets, {})
        self.of_prompt = FieldNames({*sent, "prompt", *_ATTACHED}, targets, {})
        self.inside_params = FieldNames({*free, *fields}, FIELDS, {}, _NO_TABLE)

    def judge_prompt(self, row: Mapping[str, Any]) -> None:
        """Raise `RowProblem` for columns that would be the prompt, were they written so."""
        meant = {name: value for name, value in row.items() if name not in _PROMPTS}
        judge = self.of_messages
        judge.judge({n: v for n, v in meant.items() if judge.meant_by(n) in _PROMPTS})

    def problems(self, header: Iterable[str]) -> list[str]:
        """What is wrong with the columns of a file, a sentence each."""
        names = {*header}
        judge = self.of_prompt
        if "prompt" not in names:
            judge = self.of_params if "params" in names else self.of_messages
        columns = [name for name in header if name not in _PROMPTS]
        return [words for name in columns if (words := judge.problem(name))]

    @property
    def not_sent(self) -> list[str]:
        """The columns that were seen and stay here, in order."""
        forms = (self.of_params, self.of_messages, self.of_prompt)
        return list(dict.fromkeys(name for form in forms for name in form.not_sent))


def not_sent_words(names: Collection[str]) -> str:
    """The columns that stay here, in a line; empty when there are none."""
    if not names:
        return ""
    shown = ", ".join(name if name.strip() == name else _quoted(name) for name in names)
    if len(names) > _SHOWN:
        shown = f"{', '.join(list(names)[:_SHOWN])} and {len(names) - _SHOWN:,} more"
    return f"not sent: {shown}"


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()


def _quoted(name: str) -> str:
    return msgspec.json.encode(name[:60]).decode()


def _one_edit(name: str, known: str) -> bool:
    """Whether one letter is missing, too many, wrong, or has changed places with the next."""
    if abs(len(name) - len(known)) > 1:
        return False
    same = next((i for i, (a, b) in enumerate(zip(name, known, strict=False)) if a != b), None)
    if same is None:
        return len(name) != len(known)
    rest, wanted = name[same:], known[same:]
    return (
        rest[1:] == wanted[1:]
        or rest[1:] == wanted
        or rest == wanted[1:]
        or (rest[:2] == wanted[1::-1] and rest[2:] == wanted[2:])
    )
