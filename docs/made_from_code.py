"""The parts of the reference that are read from the code, as Markdown.

A page has the line `<!-- from the code: NAME -->`; the site shows what the function of that
name gives instead, so that it cannot be out of date.
"""

import inspect
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from batcher import errors
from batcher.cli.commands import SectionedOption
from batcher.cli.menu import MENU, group
from batcher.config.tables import DEFAULTS, Settings
from batcher.ledger.connect import open_engine
from batcher.ledger.migrate import prepare
from batcher.messages.failure import STATUS_OF_TYPE, VERDICTS
from batcher.preflight.rules import shipped_rules

_MARK = re.compile(r"^<!-- from the code: (\w+) -->$", re.MULTILINE)


def fill_in(page: str) -> str:
    """The page with what its marks ask for."""
    return _MARK.sub(lambda mark: "\n".join(PARTS[mark[1]]()), page)


def commands() -> Iterator[str]:
    """Every command with its usage and options, in the groups of the help."""
    context = click.Context(group, info_name="batcher")
    for heading, entries in MENU.items():
        yield f"## {heading}\n"
        for name in entries:
            command = group.get_command(context, name)
            yield from _command(command, click.Context(command, context, name))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"### `{context.command_path}`\n"
    yield f"{_text(command.help or '')}\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            yield from _command(below, click.Context(below, context, name))
        return
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```\n"
    options = [each for each in command.params if isinstance(each, click.Option)]
    records = [(each, each.get_help_record(context)) for each in options]
    yield from _table(
        ("option", "what it does", "about"),
        ((f"`{names}`", words, _section(each)) for each, (names, words) in records),
    )


def _section(option: click.Option) -> str:
    return option.section if isinstance(option, SectionedOption) else ""


def settings() -> Iterator[str]:
    """Every setting of config.toml and job files with its variable and default."""
    options = {each.name: each for each in group.get_command(None, "run").params}
    yield from _table(
        ("setting", "type", "default", "variable", "option of `run`"),
        (
            (
                f"`{name}`",
                f"`{_type(kind)}`",
                _default(getattr(DEFAULTS, name)),
                "" if re.search("Table|tuple|dict", str(kind)) else f"`BATCHER_{name.upper()}`",
                _option(options.get(name)),
            )
            for name, kind in Settings.__annotations__.items()
        ),
    )


def _type(kind: object) -> str:
    words = getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind)
    return re.sub(r"batcher[\w.]*\.|typing\.| \| None|<enum '(\w+)'>", r"\1", words)


def _default(value: object) -> str:
    return "" if value is None else f"`{value}`"


def _option(option: click.Parameter | None) -> str:
    return f"`{option.opts[-1]}`" if isinstance(option, click.Option) else ""


def views() -> Iterator[str]:
    """The stable views and their columns, from a ledger made for it."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(str(Path(folder) / "batcher.db"))
        prepare(engine)
        with engine.connect() as connection:
            run = connection.exec_driver_sql
            found = run(
                "SELECT name FROM sqlite_master WHERE type = 'view' AND name LIKE 'v_%'"
            )
            columns = {
                name: [row[1] for row in run(f"PRAGMA table_info({name})")]
                for (name,) in sorted(found.all())
            }
        engine.dispose()
    for name, names in columns.items():
        yield f"## `{name}`\n"
        yield f"{', '.join(f'`{each}`' for each in names)}\n"


def exit_codes() -> Iterator[str]:
    """Every error that the program raises on purpose, by exit code."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BatcherError)
    ]
    yield from _table(
        ("code", "error", "when"),
        (
            (str(each.exit_code), f"`{each.__name__}`", _text(each.__doc__ or ""))
            for each in sorted(kinds, key=lambda kind: kind.exit_code)
        ),
    )


def failures() -> Iterator[str]:
    """What each status and code leads to."""
    yield from _table(
        ("status", "code", "what happens"),
        (
            (str(status or "any"), f"`{code}`" if code else "any", f"`{verdict}`")
            for (status, code), verdict in VERDICTS.items()
        ),
    )
    yield "\nAn error inside a 200, or an `error` event of a stream, counts as a status:\n"
    yield from _table(
        ("type", "counts as"),
        ((f"`{name}`", str(status)) for name, status in STATUS_OF_TYPE.items()),
    )


def rules() -> Iterator[str]:
    """What is refused before it is sent, by id."""
    yield from _table(
        ("reason", "fields", "dialects", "sentence"),
        (
            (
                f"`{rule.id}`",
                ", ".join(f"`{field}`" for field in rule.fields),
                ", ".join(rule.dialects) or "any",
                rule.sentence.replace("{", "*").replace("}", "*"),
            )
            for rule in shipped_rules().rules
        ),
    )


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    titles = tuple(titles)
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _text(words: str) -> str:
    return inspect.cleandoc(words).replace("\b", "").replace("<", "&lt;").strip()


PARTS = {
    part.__name__: part for part in (commands, settings, views, exit_codes, failures, rules)
}
