"""Run Messages API requests in bulk, land every answer in SQL, account for every attempt.

`batcher.run` and `batcher.Ledger` are the Python interface, see docs/python.md; they are loaded
when they are used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batcher.library.ledgers import Ledger, RowAnswer
    from batcher.library.running import Run, run

__version__ = "0.1.0"
__all__ = ["Ledger", "RowAnswer", "Run", "run"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes
    """The Python interface, imported now."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from batcher.library import ledgers, running  # noqa: PLC0415 - see above

    for module in (ledgers, running):
        if hasattr(module, name):
            globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    """What a notebook proposes: the interface, also before it is imported."""
    return ["__version__", *__all__]
