"""A first job file for an input: looked at, commented, and known to work."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from batcher import wiring
from batcher.config.keys import read_key
from batcher.errors import AccessRefused, ConfigurationError
from batcher.estimate.preflight_sample import Sample, refuse_misnamed, take_sample
from batcher.pipeline.job import Job
from batcher.rows.build.requests import PROMPT_COLUMNS
from batcher.rows.read.check import column_names
from batcher.rows.read.source import source_of

SCHEMA_NAME: Final = ".batcher-job.schema.json"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ODD: Final = frozenset('"\\{}%')  # would end the text, or the template, that they stand in
# Words that mean something to a template; a column of that name is read from the row.
_WORDS: Final = frozenset(
    [
        "and",
        "or",
        "not",
        "is",
        "in",
        "if",
        "else",
        "elif",
        "for",
        "none",
        "true",
        "false",
        "loop",
        "None",
        "True",
        "False",
        "self",
        "row",
        "row_number",
        "recursive",
        "import",
        "include",
    ]
)
_IDENTITIES: Final = {"id", "custom_id"}
_SUFFIXES: Final = {".gz", ".zst", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDraft:
    """The text of a job file for `path`, and what the first rows of its input became.

    `notes` are sentences about what a run would lack: a price, a key.
    """

    path: Path
    text: str
    columns: tuple[str, ...]
    sample: Sample
    notes: tuple[str, ...]


def draft_job(file: Path, endpoint: str, model: str, config_path: str | None) -> JobDraft:
    """A job that sends the rows of `file`: as they are, or by a template over their columns.

    Raises `ConfigurationError` when neither makes a request of any of the first rows, and
    `UsageError` when there is no such file.
    """
    options = {"endpoint": endpoint, "model": model, "preflight": False}
    columns: tuple[str, ...] = ()
    try:
        sample = _sample(file, config_path, options)
    except ConfigurationError:
        if not PROMPT_COLUMNS.isdisjoint(column_names(source_of(file.name, file))):
            raise  # its rows are requests, and something else is wrong with the file
        sample = Sample()
    refuse_misnamed(sample)
    prompt = ""
    if sample.refused == sample.rows:
        columns = _prompt_columns(file)
        prompt = _template(columns)
        sample = _sample(file, config_path, {**options, "prompt": prompt})
    if columns and sample.refused:
        gaps = _gaps(columns, file, config_path, options)
        prompt = _template(columns, gaps)
        sample = _sample(file, config_path, {**options, "prompt": prompt})
    if sample.refused and sample.refused == sample.rows:
        _, row = next(iter(sample.examples.values()))
        raise ConfigurationError(
            f"{file}: no row becomes a request; row {row.row_number}: {row.message}"
        )
    path = job_path(file)
    text = _text(path, file, (endpoint, model), prompt)
    notes = _notes(
        wiring.resolve(wiring.asked((str(file),), None, config_path, options=options))
    )
    return JobDraft(path=path, text=text, columns=columns, sample=sample, notes=notes)


def job_path(file: Path) -> Path:
    """Beside the input and named after it; never config.toml, which is something else."""
    name = file.name
    while Path(name).suffix in _SUFFIXES:
        name = Path(name).stem
    return file.with_name(f"{'config-job' if name == 'config' else name}.toml")


def _sample(file: Path, config_path: str | None, options: dict[str, object]) -> Sample:
    job = wiring.resolve(wiring.asked((str(file),), None, config_path, options=options))
    builder = wiring.request_builder(job)
    return take_sample(wiring.checked_files(job, builder), builder)


def _notes(job: Job) -> tuple[str, ...]:
    book = wiring.price_book(job)
    prices, model = wiring.price_list(job, book), job.settings.model
    notes = [book.no_price_words(prices, model)] if prices and model else []
    try:
        read_key(job.endpoint)
    except AccessRefused as exc:
        notes.append(str(exc))
    return tuple(filter(None, notes))


def _prompt_columns(file: Path) -> tuple[str, ...]:
    names = column_names(source_of(file.name, file))
    if not names and not file.stat().st_size:
        raise ConfigurationError(f"{file}: is empty; put rows into it first")
    usable = tuple(
        n for n in names if n.isprintable() and _ODD.isdisjoint(n) and n not in _IDENTITIES
    )
    if not usable:
        raise ConfigurationError(
            f"{file}: has no column that a prompt can be made of; its columns are "
            f"{', '.join(names) or 'none'}"
        )
    return usable


def _gaps(
    columns: tuple[str, ...], file: Path, config_path: str | None, options: dict[str, object]
) -> frozenset[str]:
    """The columns that some of the first rows have not, or have a null in."""
    alone = {name: {**options, "prompt": f"-{_template((name,))}"} for name in columns}
    return frozenset(
        name for name, each in alone.items() if _sample(file, config_path, each).refused
    )


def _template(columns: tuple[str, ...], gaps: frozenset[str] = frozenset()) -> str:
    if len(columns) == 1:
        return f"{{{{ {_read(columns[0], gaps)} }}}}"
    return "\n".join(f"{name}: {{{{ {_read(name, gaps)} }}}}" for name in columns)


def _read(column: str, gaps: frozenset[str]) -> str:
    """How a template reads a column of any name; nothing of one of `gaps` in a row without."""
    is_plain = _NAME.fullmatch(column) and column not in _WORDS
    name = column if is_plain else f"row[{_quoted(column)}]"
    return (
        f"{name} if {name} is defined and {name} is not none else ''"
        if column in gaps
        else name
    )


def _text(path: Path, file: Path, where: tuple[str, str], template: str) -> str:
    endpoint, model = map(_quoted, where)
    if template:
        prompt = (
            "# What is asked, made of the columns of each row: put it into words.\n"
            f'prompt = """\n{template}\n"""\n'
        )
    else:
        prompt = "# Each row is a request already; what it leaves out is filled in from here.\n"
    return f"""#:schema {SCHEMA_NAME}
# What is sent, and where. `batcher check` reads it and every row and sends nothing;
# `batcher config show` says each setting in force. Lines that begin with # are suggestions.

name = {_quoted(path.stem)}
inputs = [{_quoted(file.name)}]

endpoint = {endpoint}
model = {model}
max_tokens = 1024

{prompt}
#system = "You answer in one sentence."

# Never let it cost more than this, in US dollars; above the other, ask first.
#max_cost = "25.00"
#ask_above = "5.00"

# Write the answers there at the end, joined to the rows' own columns.
#output = {_quoted(f"{path.stem}-answers.csv")}

#[parameters]
#temperature = 0.2

#[tags]
#team = "mine"
"""


def _quoted(text: str) -> str:
    """As TOML says it: a JSON string is one."""
    return msgspec.json.encode(text).decode()
