"""What every command imports and reads while it runs, ready before a process is forked.

Imported by the process that `tests/e2e/forked.py` forks from, and by nothing else: half of what
a short command costs is imports it makes when it needs them, and the program's own data files.
"""

from importlib import import_module

from batcher.preflight.rules import shipped_rules
from batcher.pricing.book.book import load_shipped

IMPORTED = """
aiohttp psycopg uvloop encodings.idna encodings.utf_8_sig importlib.resources.readers
alembic.autogenerate alembic.command alembic.config sqlalchemy.dialects.sqlite
sqlalchemy.dialects.postgresql.psycopg batcher.cli.run.run batcher.cli.run.display
batcher.cli.run.dry_run batcher.cli.run.summary batcher.cli.look.export
batcher.cli.look.report batcher.cli.look.status batcher.cli.money.estimate
batcher.cli.care.ledger batcher.cli.care.simulate batcher.estimate.census
batcher.messages.stream batcher.pricing.book.differences batcher.ledger.rate.months
batcher.report.export.input_rows batcher.report.export.stored
batcher.report.render.status_text batcher.report.status batcher.report.summary
batcher.report.totals batcher.simulator.server batcher.transport.live.live_lane batcher.wiring
"""

for name in IMPORTED.split():
    import_module(name)
shipped_rules()
load_shipped()
