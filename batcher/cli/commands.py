"""What all commands share: sections and examples in the help, one --format, a ledger.

Names that exist, for completion, are listed when a shell asks for them.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from batcher.errors import BatcherError, did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from batcher.ledger.connect import Engine

    Choice = click.Choice[str]
else:
    Choice = click.Choice  # older ones take no type

# The headings under which options stand, in this order.
WHAT: Final = "What is asked for"
LIMITS: Final = "Limits"
MONEY: Final = "Money"
TROUBLE: Final = "When it goes wrong"
OUTPUT: Final = "Output"
WORKERS: Final = "Many workers"
OTHER: Final = "Options"
_ORDER: Final = (WHAT, LIMITS, MONEY, TROUBLE, OUTPUT, WORKERS, OTHER)

_HELP: Final = {"help_option_names": ["-h", "--help"]}

F = TypeVar("F", bound=Callable[..., Any])
_LARGEST: Final = 2**63 - 1
FILE: Final = click.Path(readable=False)  # completed by the shell; who opens it says more

Names = Callable[[], Iterable[str]]


class SectionedOption(click.Option):
    """An option that knows under which heading of the help it stands."""

    def __init__(self, *names: Any, section: str = OTHER, **attributes: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(*names, **attributes)
        self.section = section


class NearChoice(Choice):
    """One of some words; a word that is nearly one of them is told what it is near."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """See click."""
        try:
            word: str = super().convert(value, param, ctx)
        except click.BadParameter as refused:
            words = refused.message.rstrip(".")
            near = did_you_mean(str(value), map(str, self.choices))
            raise click.BadParameter(words + near, ctx, param) from None
        return word


def number(text: str) -> int:
    """The number of a run or the like, no larger than a database counts."""
    try:
        found = int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number.") from None
    if abs(found) > _LARGEST:
        raise click.BadParameter(f"{found} is beyond all numbers here.")
    return found


class CommandWithExamples(click.Command):
    """A command whose help shows its options in sections, and examples below them."""

    def __init__(
        self,
        name: str | None = None,
        *,
        examples: Sequence[str] = (),
        **attributes: Any,  # noqa: ANN401 - click's
    ) -> None:
        super().__init__(name, context_settings=_HELP, **attributes)
        self.examples = tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click: a heading for each section that has options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                section = getattr(parameter, "section", OTHER)
                sections.setdefault(section, []).append(record)
        for section in filter(sections.get, _ORDER):
            with formatter.section(section):
                formatter.write_dl(sections[section])

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002 - click's signature
        """See click: the first paragraph of the help, whole."""
        return " ".join((self.help or "").split("\n\n")[0].split())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """See click: the examples, as they are typed."""
        write_examples(formatter, self.examples)


class GroupWithExamples(click.Group):
    """A group of such commands; a name that is nearly one of theirs is told what it is near."""

    command_class = CommandWithExamples

    def __init__(
        self,
        name: str | None = None,
        *,
        examples: Sequence[str] = (),
        **attributes: Any,  # noqa: ANN401 - click's
    ) -> None:
        super().__init__(name, context_settings=_HELP, **attributes)
        self.examples = tuple(examples)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        command = super().get_command(ctx, cmd_name)
        if command is None:
            suggest(ctx, cmd_name, self.commands)
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """See click: the examples, as they are typed."""
        write_examples(formatter, self.examples)


def suggest(ctx: click.Context, name: str, known: Iterable[str]) -> None:
    """Raise `UsageError` that names the command which was probably meant, if one is near."""
    from difflib import get_close_matches

    if not ctx.resilient_parsing and (close := get_close_matches(name, known, 1)):
        ctx.fail(f"no such command {name!r}: did you mean {close[0]!r}?")


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """Command lines, never wrapped: they are there to be copied."""
    if not examples:
        return
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def command(
    *examples: str, name: str | None = None
) -> Callable[[Callable[..., Any]], CommandWithExamples]:
    """A command with these examples in its help; `name` where the function's own is taken."""
    return click.command(name, cls=CommandWithExamples, examples=examples)


def option(*names: str, **attributes: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's
    """See `click.option`; `section` is the heading it stands under."""
    return click.option(*names, cls=SectionedOption, **attributes)


def format_options(
    *formats: str, section: str = OTHER, short: str = "json"
) -> Callable[[F], F]:
    """`--format`, the first of `formats` unless given, and `--json` as its short form."""

    def add(command: F) -> F:
        if short in formats:
            command = option(
                f"--{short}",
                "form",
                flag_value=short,
                section=section,
                help=f"Short for --format {short}.",
            )(command)
        return option(
            "--format",
            "form",
            type=NearChoice(formats),
            default=formats[0],
            show_default=True,
            section=section,
            help="How to print it.",
        )(command)

    return add


def force_option(section: str = OTHER) -> Callable[[F], F]:
    """`--force`, which every command with `-o` has."""
    return option(
        "--force",
        is_flag=True,
        section=section,
        help="Replace a file that batcher did not write; never an input or a ledger.",
    )


def choice(words: type[StrEnum]) -> NearChoice:
    """One of the words of a setting."""
    return NearChoice([str(word) for word in words])


def write_new(file: Path, text: str) -> None:
    """Write a file that was not there; raises `CannotCreate` for one that is."""
    from batcher.errors import CannotCreate
    from batcher.outputs import NOTHING_KEPT

    NOTHING_KEPT.check(file)
    try:
        with file.open("xb") as target:
            try:
                target.write(text.encode())
                target.flush()
            except OSError:  # a part of it would stand in the way of the next try
                file.unlink()
                raise
    except FileExistsError as exc:
        raise CannotCreate(f"{file}: is there already; name another file") from exc
    except OSError as exc:
        raise CannotCreate(f"{file}: cannot be written: {exc}") from exc


def completed(
    names: Names, *, in_list: bool = False
) -> "Callable[[click.Context, click.Parameter, str], list[CompletionItem]]":
    """Completion from `names`, which are asked for only when a shell wants them.

    `in_list`: several may stand there, with commas between them.
    """

    def complete(
        _ctx: click.Context, _parameter: click.Parameter, begun: str
    ) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        before, comma, last = begun.rpartition(",") if in_list else ("", "", begun)
        found = [name for name in names() if name.startswith(last)]
        return [CompletionItem(f"{before}{comma}{name}") for name in found]

    return complete


_config_option = option("--config", type=FILE, metavar="FILE", help="The config.toml to use.")


def ledger_options(command: F) -> F:
    """Add `--database` and `--config`."""
    database = option(
        "-d",
        "--database",
        metavar="URL",
        type=FILE,
        help="The ledger: a SQLite file or postgresql+psycopg://user@host/name.",
    )
    return database(_config_option(command))


def several_ledgers_options(command: F) -> F:
    """Add `--database`, that may be given several times, and `--config`."""
    databases = option(
        "-d",
        "--database",
        "databases",
        multiple=True,
        metavar="URL",
        type=FILE,
        help="A ledger: a SQLite file or postgresql+psycopg://user@host/name; several are read"
        " as one.",
    )
    return databases(_config_option(command))


def several_ledgers(
    databases: tuple[str, ...], config: str | None
) -> AbstractContextManager["tuple[Engine, ...]"]:
    """All ledgers that the options, or else the configuration, name, open for reading."""
    from batcher.config.files import database_url
    from batcher.report.ledgers import ledgers_to_read

    named = databases or (None,)
    return ledgers_to_read([database_url(each, config) for each in named])


def ledger(database: str | None, config: str | None) -> AbstractContextManager["Engine"]:
    """The ledger that the options and the configuration name, open for reading."""
    from batcher.config.files import database_url
    from batcher.report.ledgers import ledger_to_read

    return ledger_to_read(database_url(database, config))


def endpoint_names() -> Iterable[str]:
    """The endpoints of the presets and of the config.toml that is in force here."""
    from batcher.config import endpoints
    from batcher.config.files import read_config

    with suppress(BatcherError):
        return endpoints.endpoint_names(read_config(None).endpoints)
    return endpoints.endpoint_names({})


def model_names() -> Iterable[str]:
    """The models that the shipped price book knows by name."""
    from batcher.pricing.book.book import load_shipped

    book = load_shipped()
    return sorted({model for rates in book.lists.values() for model in rates.models()})


def dimension_names() -> Iterable[str]:
    """What `report --by` takes."""
    from batcher.report.query import Kind

    return [f"{kind}:" if kind is Kind.TAG else str(kind) for kind in Kind]


def price_list_names() -> Iterable[str]:
    """The lists of the shipped price book."""
    from batcher.pricing.book.book import load_shipped

    return sorted(load_shipped().lists)


def column_names() -> Iterable[str]:
    """What `export` can write, and where an answer comes from."""
    from batcher.report.export.answers import ANSWER_COLUMNS

    return list(ANSWER_COLUMNS)
