"""Names that exist, for completion: each list is made when a shell asks for it."""

from collections.abc import Iterable
from contextlib import suppress

from batcher.errors import BatcherError


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


def command_names() -> Iterable[str]:
    """All commands, in the order of the help."""
    from batcher.cli.menu import COMMANDS

    return list(COMMANDS)
