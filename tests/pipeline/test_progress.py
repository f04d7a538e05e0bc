"""What a display is told: each field has one writer, and nothing that is waited for is lost."""

import ast
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import batcher.pipeline
from batcher.pipeline.engine.attempts import Budget, Cap, Wallet
from batcher.pipeline.progress import Progress

ROOM = Path(batcher.pipeline.__file__).parent
FIELDS = {field.name for field in fields(Progress)}


def written(path):
    """The fields of a `Progress` that the module assigns."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Assign(targets=targets):
                pass
            case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                targets = [target]
            case _:
                continue
        parts = [p for t in targets for p in (t.elts if isinstance(t, ast.Tuple) else [t])]
        for part in parts:
            if isinstance(part, ast.Attribute) and "progress" in ast.unparse(part.value):
                yield part.attr


def test_each_field_is_written_in_one_module():
    writers = defaultdict(set)
    for path in sorted(ROOM.rglob("*.py")):
        for name in written(path):
            writers[name].add(path.name)
    assert writers.keys() <= FIELDS
    assert len(writers) > len(FIELDS) / 2  # they are found
    assert not {name: modules for name, modules in writers.items() if len(modules) > 1}


def test_the_budget_does_not_wipe_that_the_database_is_away():
    progress = Progress(database_wait="the database is away")
    wallet = Wallet(Cap(scope="run", cap=100, words="--max-cost"), 0)
    budget = Budget([wallet], 1, writer=None, call_soon=None, wake=lambda: None)
    budget.show(progress)
    assert (progress.database_wait, progress.money_wait) == ("the database is away", "")
    assert progress.cap_free == 100
