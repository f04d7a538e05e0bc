"""Refuses, before money is spent, what an endpoint is known to refuse, by the rules."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

import msgspec

from batcher.errors import ConfigurationError
from batcher.preflight.checks import Finding, Test, getter, test_of
from batcher.preflight.rules import Bound, Problem, Required, Rule, RuleBook
from batcher.preflight.structure import WITH_BLOCKS, blocks_of_messages, facts, needed_fact
from batcher.pricing.book.book import normalise

Body: TypeAlias = dict[str, Any]
Probe: TypeAlias = Callable[[Body], Problem | None]

_MOST_PROGRAMS: Final = 1_000
_VALUE_LENGTH: Final = 60


class Preflight:
    """The rules that hold at one endpoint; compiled once per model and set of beta names.

    `betas` are the endpoint's own. Raises `ConfigurationError` for an unknown dialect.
    """

    def __init__(
        self,
        book: RuleBook,
        *,
        api_version: str | None,
        dialect: str,
        endpoint_name: str,
        betas: tuple[str, ...] = (),
    ) -> None:
        check_dialect(book, dialect, endpoint_name)
        self._book = book
        self._dialect = dialect
        self._version = api_version
        self._endpoint = endpoint_name
        self._betas = betas
        self._programs: dict[tuple[str, tuple[str, ...]], _Program] = {}

    def problem(self, params: Body, betas: tuple[str, ...] = ()) -> Problem | None:
        """The first rule that a Messages body breaks, `None` when it breaks none.

        `params` has passed the checks of rows: a model, and messages with roles and contents.
        `betas` are the request's own names.
        """
        key = (params["model"], betas)
        program = self._programs.get(key)
        if program is None:
            if len(self._programs) >= _MOST_PROGRAMS:
                self._programs.clear()
            program = self._programs[key] = self._compile(*key)
        return program.problem(params)

    def largest_output(self, model: str, betas: tuple[str, ...] = ()) -> int | None:
        """The most `max_tokens` that the rules allow `model`; `None`: none says."""
        name, _ = normalise(model)
        every = (*self._betas, *betas)
        bounds = [
            int(rule.check.max)
            for rule in self._book.rules
            if isinstance(rule.check, Bound)
            and rule.check.max is not None
            and rule.scope == "body"
            and rule.fields == ("max_tokens",)
            and not rule.when
            and self._holds(rule, name, every)
        ]
        return min(bounds, default=None)

    def _compile(self, model: str, betas: tuple[str, ...]) -> "_Program":
        name, _ = normalise(model)
        every = (*self._betas, *betas)
        if not _fits(name, self._book.dialects[self._dialect].models):
            return _Program(())
        context = {
            "model": model,
            "version": self._version or "",
            "endpoint": self._endpoint,
        }
        rules = (rule for rule in self._book.rules if self._holds(rule, name, every))
        return _Program([_Compiled(rule, every, context) for rule in rules])

    def _holds(self, rule: Rule, model: str, betas: tuple[str, ...]) -> bool:
        return (
            self._dialect in rule.dialects
            and (not rule.versions or self._version in rule.versions)
            and _fits(model, _patterns(rule.models, self._book))
            and not any(beta.startswith(rule.unless_betas) for beta in betas)
        )


def check_dialect(book: RuleBook, dialect: str, endpoint_name: str) -> None:
    """Raise `ConfigurationError` unless the rules know `dialect`."""
    if dialect not in book.dialects:
        raise ConfigurationError(
            f"endpoint {endpoint_name}: unknown dialect {dialect!r}; known are "
            f"{', '.join(book.dialects)}"
        )


class _Compiled:
    """One rule for one model, ready to look at elements of its scope."""

    def __init__(self, rule: Rule, betas: tuple[str, ...], context: dict[str, str]) -> None:
        self.rule = rule
        self._context = context
        self._test: Test = test_of(rule.check, betas)
        self._fields = [
            (path, None if "." in path else path, getter(path)) for path in rule.fields
        ]
        self._when = [(getter(path), values) for path, values in rule.when.items()]
        self._where = [(getter(path), values) for path, values in rule.where.items()]
        self._unless = [getter(path) for path in rule.unless_fields]

    def look(
        self, element: dict[str, Any], body: Body | None = None, place: str = ""
    ) -> Problem | None:
        """The problem with this element of `body`, which is at `place`; or with the body."""
        for path, name, get in self._fields:
            value = get(element) if name is None else element.get(name)
            finding = self._test(value, element)
            if finding is not None and self._applies(
                element, element if body is None else body
            ):
                return self._problem(finding, f"{place}.{path}" if place else path)
        return None

    def _applies(self, element: dict[str, Any], body: Body) -> bool:
        return (
            all(_accepted(get(body), values) for get, values in self._when)
            and all(_accepted(get(element), values) for get, values in self._where)
            and all(get(body) is None for get in self._unless)
        )

    def _problem(self, finding: Finding, field: str) -> Problem:
        place, value = finding
        words = {name: _words(v) for name, v in msgspec.structs.asdict(self.rule.check).items()}
        message = self.rule.sentence.format(
            field=place or field, value=_short(value), **self._context, **words
        )
        return Problem(self.rule.id, message)


class _Program:
    """The rules for one model, sorted by the field or fact without which none can be broken."""

    def __init__(self, rules: Iterable[_Compiled]) -> None:
        self._probes: dict[str, list[Probe]] = {}
        by_scope: dict[str, list[_Compiled]] = {}
        for rule in rules:
            if rule.rule.scope == "body":
                self._probes.setdefault(_trigger(rule.rule), []).append(rule.look)
            else:
                by_scope.setdefault(rule.rule.scope, []).append(rule)
        for scope, (field, probe) in _WALKS.items():
            if scope in by_scope:
                self._probes.setdefault(field, []).append(probe(by_scope[scope]))

    def problem(self, body: Body) -> Problem | None:
        for name in (*body, *facts(body)):
            for probe in self._probes.get(name, ()):
                problem = probe(body)
                if problem is not None:
                    return problem
        return None


def _trigger(rule: Rule) -> str:
    """The top-level field, or the fact, that must be there to break the rule."""
    fact = needed_fact(rule.check)
    if fact is not None:
        return fact
    if not isinstance(rule.check, Required):
        return rule.fields[0].partition(".")[0] if len(rule.fields) == 1 else _shared(rule)
    return next(iter(rule.when), "messages").partition(".")[0]


def _shared(rule: Rule) -> str:
    """The top-level field that all fields of a rule are in; `messages` is always there."""
    tops = {path.partition(".")[0] for path in rule.fields}
    return tops.pop() if len(tops) == 1 else "messages"


def _walk_messages(rules: list[_Compiled]) -> Probe:
    def probe(body: Body) -> Problem | None:
        for index, message in enumerate(body["messages"]):
            for rule in rules:
                problem = rule.look(message, body, f"messages[{index}]")
                if problem is not None:
                    return problem
        return None

    return probe


def _walk_blocks(rules: list[_Compiled]) -> Probe:
    by_type = _ByType(rules)

    def probe(body: Body) -> Problem | None:
        for role, place, parent, block in blocks_of_messages(body):
            for rule in by_type.rules(block.get("type"), role, parent):
                problem = rule.look(block, body, place)
                if problem is not None:
                    return problem
        return None

    return probe


def _walk_list(field: str) -> Callable[[list[_Compiled]], Probe]:
    """Over the objects of a top-level list; a tool without a type has the type ""."""

    def walk(rules: list[_Compiled]) -> Probe:
        by_type = _ByType(rules)

        def probe(body: Body) -> Problem | None:
            entries = body[field] if type(body[field]) is list else ()
            for index, entry in enumerate(entries):
                if type(entry) is not dict:
                    continue
                for rule in by_type.rules(entry.get("type") or ""):
                    problem = rule.look(entry, body, f"{field}[{index}]")
                    if problem is not None:
                        return problem
            return None

        return probe

    return walk


_WALKS: Final[dict[str, tuple[str, Callable[[list[_Compiled]], Probe]]]] = {
    "message": ("messages", _walk_messages),
    "block": (WITH_BLOCKS, _walk_blocks),
    "system": ("system", _walk_list("system")),
    "tool": ("tools", _walk_list("tools")),
}


class _ByType:
    """Which of the rules are about elements of a type, role and place; remembered."""

    def __init__(self, rules: list[_Compiled]) -> None:
        self._rules = rules
        self._known: dict[tuple[str, str, str], list[_Compiled]] = {}

    def rules(self, type_: object, role: str = "", parent: str = "") -> list[_Compiled]:
        key = (type_ if type(type_) is str else "?", role, parent)
        known = self._known.get(key)
        if known is None:
            known = [compiled for compiled in self._rules if _is_about(compiled.rule, *key)]
            if len(self._known) < _MOST_PROGRAMS:
                self._known[key] = known
        return known


def _is_about(rule: Rule, type_: str, role: str, parent: str) -> bool:
    return (
        _fits(type_, rule.types)
        and (not rule.roles or role in rule.roles)
        and (rule.inside is None or parent in rule.inside)
    )


def _patterns(models: tuple[str, ...], book: RuleBook) -> tuple[str, ...]:
    """The patterns that `models` stand for; groups may name groups."""
    found: list[str] = []
    for name in models:
        found.extend(_patterns(book.models[name], book) if name in book.models else (name,))
    return tuple(found)


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _accepted(value: object, values: tuple[Any, ...]) -> bool:
    return value in values or (value is not None and "*" in values)


def _words(value: object) -> str:
    if type(value) is tuple:
        return ", ".join(str(one) for one in value)
    return f"{value:,}" if type(value) is int else str(value)


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}…"
