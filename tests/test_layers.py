"""The architecture, as a test: who may import whom, and where each library lives.

This is the document. An arrow or a home changes here first, with its reason beside it.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "batcher"
MAX_LINES = 400

# A room imports only rooms on lower lines. Rooms on one line do not know each other.
# The simulator stands apart: only the commands start it.
LAYERS = [
    {"cli", "library"},
    {"estimate", "finance", "distributed", "simulator"},
    {"wiring"},
    {"config", "monitoring"},
    {"pipeline", "report"},
    {"transport", "ledger", "rows"},
    {"preflight"},
    {"pacing", "pricing"},
    {"messages"},
    {"outputs"},  # whoever writes a file asks here whether it may: the ledger does, too
    {"errors", "clock"},
]
DEPTH = {room: depth for depth, line in enumerate(LAYERS) for room in line}

# A room is entered by its doors only; everything else in it is private. A room without a line
# here is entered by its own name (`batcher.config`). The vocabulary is open.
OPEN_ROOMS = {"messages", "pricing"}
DOORS = {
    "config": {
        "endpoints",
        "files",
        "keys",
        "tables",
        "values",
    },
    "estimate": {"estimate", "expected_cost", "interval", "look_ahead", "new_job", "ways"},
    "finance": {
        "compare",
        "focus.columns",
        "focus.parquet",
        "focus.write",
        "reconcile.comparison",
        "reconcile.lines",
        "reconcile.record",
        "what_if",
    },
    "library": {"ledgers", "running"},
    "ledger": {
        "connect",
        "lifeboat.lifeboat",
        "maintenance",
        "migrate",
        "money.adjustments",
        "money.budget",
        "money.estimates",
        "owner.lock",
        "owner.sharing",
        "rate.ratings",
        "resume",
        "runs",
        "schema",
        "batches.store",  # what waits in batches: the pipeline, reports and a command ask
        "write.records",
        "write.writer",
    },
    "monitoring": {"metrics_file", "monitors", "progress_text", "run_log"},
    "pacing": {
        "backoff",
        "limits",
        "pacer",
        "pool",
    },
    "pipeline": {
        "choices",
        "engine.rater",
        "job",
        "progress",
        "repeats",  # an estimate counts equal rows like a run does
        "run.by_hand",
        "run.holding",
        "run.row_checks",
        "run.run",
    },
    "preflight": {
        "preflight",
        "rules",
    },
    "report": {
        "export.answers",
        "figures",
        "ledgers",
        "query",
        "render.formats",
        "render.request_text",
        "render.status_text",
        "request",
        "status",
        "summary",
        "table",
        "views.catalogue",
        "views.frame",
        "views.meters",
        "words",
    },
    "rows": {
        "batch",
        "build.field_names",
        "build.requests",
        "build.settings",
        "out.sink",
        "out.output",
        "ranges",
        "read.check",
        "read.reader",
        "out.typed",
        "read.source",
        "read.spool",
    },
    "simulator": {
        "server",
        "settings",
    },
    "distributed": {"on_ray"},
    # Besides its own name: only doctor asks for it; reports are fetched without a job; a
    # cluster has workers of its own.
    "wiring": {"child", "connecting", "examine", "process", "processes"},
    "transport": {
        "batch.batch_lane",
        "batch.message_batches",
        "room",  # a budget for answers: the lane takes from it, the engine gives back
        "endpoint",
        "proxy",
        "live.client",
        "live.credentials",
        "live.connections",
        "live.listings",
        "live.live_lane",
        "live.mask",  # what was typed is repeated without a key, too
    },
}
MOST_DOORS = {"ledger": 16, "report": 16}  # all others: twelve
WING = 16  # modules in one folder, `__init__` not counted

TOP_LEVEL = {
    "LICENSE", "README.md", "batcher", "config.toml", "docs", "jobs", "migrations",
    "pyproject.toml", "tests",
}  # fmt: skip

# The simulator is a second opinion on the API: sharing our parser would hide our mistakes.
ISOLATED = {"simulator"}

# Each third-party library has one home, so that replacing it touches one place. Paths are
# prefixes below batcher/; "" is everywhere.
HOMES = {
    "aiohttp": (
        "transport/live/bodies.py",
        "transport/live/client.py",
        "transport/live/connections.py",
        "transport/live/wire.py",
        "simulator/",
    ),
    "multidict": (
        "transport/live/client.py",
        "transport/live/wire.py",
        "transport/live/mask.py",
        "simulator/",
    ),  # the header type of aiohttp
    "yarl": (
        "transport/live/client.py",
        "transport/live/wire.py",
        "simulator/",
    ),  # the URL type of aiohttp
    "alembic": ("ledger/migrate.py",),
    "click": ("cli/",),
    "rich": ("cli/", "report/render/text_table.py"),
    "pyarrow": (
        "rows/",
        "report/render/records.py",
        "finance/focus/parquet.py",
        "transport/live/bodies.py",  # two codecs that the standard library lacks
        "library/",  # only says what it returns
    ),
    "jinja2": ("rows/build/template.py", "rows/build/sandbox.py", "report/"),
    "jsonschema": ("pipeline/engine/validate.py",),
    "referencing": ("pipeline/engine/validate.py",),  # how jsonschema looks references up
    "sqlalchemy": ("ledger/", "report/", "finance/"),  # reports are sums made by the database
    "psycopg": ("ledger/",),
    "uvloop": ("cli/", "wiring/", "simulator/"),  # where a process chooses its event loop
    "ray": ("distributed/",),
    "botocore": ("transport/live/credentials.py",),  # signs for AWS
    "genai_prices": ("pricing/book/genai.py",),  # a second opinion on prices, never the first
    "msgspec": ("",),
}
# Not named in pyproject.toml: they are part of that library's own interface.
COMES_WITH = {
    "multidict": "aiohttp",
    "yarl": "aiohttp",
    "genai_prices": "genai-prices",
    "referencing": "jsonschema",
}

# These rooms are plain and have no asynchronous twin.
PLAIN_ROOMS = {"errors", "messages", "pricing", "pacing", "rows", "ledger", "report", "config",
               "preflight", "finance", "library"}  # fmt: skip

# What `batcher --help` must not pay for.
HEAVY = {
    "aiohttp", "alembic", "asyncio", "botocore", "jinja2", "jsonschema", "psycopg", "pyarrow",
    "ray", "rich", "sqlalchemy", "uvloop",
}  # fmt: skip

FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


@cache
def source_of(name: str) -> str:
    return (PACKAGE / name).read_text(encoding="utf-8")


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def room_of(name: str) -> str:
    return name.removesuffix(".py").split("/")[0]


EVERYWHERE = {room_of(name) for name in FILES}


def imported(source: str) -> Iterator[str]:
    """The dotted name of everything imported, at any depth; "?" where only the run can tell."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Call) and imports_by_call(node.func):
            yield literal_beginning(node.args[0] if node.args else None)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "batcher":
            yield f"batcher.{node.attr}"


def imports_by_call(function: ast.expr) -> bool:
    return ast.unparse(function).split(".")[-1] in {"import_module", "__import__"}


def literal_beginning(argument: ast.expr | None) -> str:
    if isinstance(argument, ast.JoinedStr):
        argument = argument.values[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    return "?"


def wrong_arrows(name: str, source: str) -> set[str]:
    """The rooms that the file `name` must not import, and does."""
    here = room_of(name)
    names = {
        dotted.split(".")[1] for dotted in imported(source) if dotted.startswith("batcher.")
    }
    there = {room for room in names - {here} if not room.startswith("__")}
    if here == "__init__":
        return there - {"library"}  # `import batcher` hands the Python interface on
    if here == "__main__":
        return there - {"cli"}
    if here in ISOLATED:
        return names - {here}
    return {room for room in there if DEPTH.get(room, -1) <= DEPTH[here]}


def locked_doors(name: str, source: str) -> set[str]:
    """The private modules of other rooms that the file `name` imports."""
    modules = {module_of(dotted) for dotted in imported(source)} - {None}
    foreign = {m for m in modules if m.split(".")[0] != room_of(name) and "." in m}
    rooms = {m.split(".")[0] for m in foreign} - OPEN_ROOMS
    return {m for m in foreign if m.split(".")[0] in rooms and not is_door(m)}


def is_door(module: str) -> bool:
    room, _, inside = module.partition(".")
    return inside in DOORS.get(room, set())


def module_of(dotted: str) -> str | None:
    """The module below `batcher` that a dotted name is, or is in; None for what is not ours."""
    parts = dotted.split(".")[1:] if dotted.startswith("batcher.") else []
    for length in range(len(parts), 0, -1):
        if (PACKAGE / Path(*parts[:length])).with_suffix(".py").exists():
            return ".".join(parts[:length])
    return None


def circles() -> list[list[str]]:
    """Groups of modules that import each other, at whatever depth of the source."""
    arrows = {name.removesuffix(".py").replace("/", "."): set() for name in FILES}
    for name in FILES:
        here = name.removesuffix(".py").replace("/", ".")
        arrows[here] = {module_of(d) for d in imported(source_of(name))} - {None, here}
    reached = {module: reachable(module, arrows) for module in arrows}
    together = {frozenset(m for m in reached[one] if one in reached[m]) for one in arrows}
    return sorted(sorted(group) for group in together if group)


def reachable(start: str, arrows: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = arrows.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


def homeless_libraries(name: str, source: str) -> set[str]:
    """The libraries that the file `name` imports without being their home."""
    tops = {dotted.split(".")[0] for dotted in imported(source)}
    foreign = tops - sys.stdlib_module_names - {"batcher"}
    if room_of(name) == "cli":
        foreign -= {"?"}  # the top room may load its own commands by name
    return {top for top in foreign if not name.startswith(HOMES.get(top, ("/",)))}


def reads_of_the_environment(source: str) -> set[str]:
    nodes = list(ast.walk(parsed(source)))
    names = {f"os.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names
             if n.module == "os"}  # fmt: skip
    names |= {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    return names & {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}


def floats(source: str) -> set[str]:
    nodes = list(ast.walk(parsed(source)))
    names = {n.id for n in nodes if isinstance(n, ast.Name)}
    constants = [n.value for n in nodes if isinstance(n, ast.Constant)]
    return {str(x) for x in constants if isinstance(x, float)} | names & {"float"}


def excess(source: str) -> set[str]:
    count = len(source.splitlines())
    return {f"{count} lines"} if count > MAX_LINES else set()


def asynchronous_functions(source: str) -> set[str]:
    return {n.name for n in ast.walk(parsed(source)) if isinstance(n, ast.AsyncFunctionDef)}


def nobody(wrong: Callable[[str], set[str]], among: set[str]) -> None:
    """One failure names every file that breaks a rule, with what it does wrong."""
    found = {name: sorted(wrong(name)) for name in FILES if room_of(name) in among}
    lines = [f"{name}: {', '.join(offences)}" for name, offences in found.items() if offences]
    assert not lines, "\n".join(lines)


def test_every_file_belongs_to_a_room_of_the_table():
    assert {room_of(name) for name in FILES} <= DEPTH.keys() | {"__init__", "__main__"}


def test_imports_point_down():
    """The failure names the rooms that a file may not import."""
    nobody(lambda name: wrong_arrows(name, source_of(name)), among=EVERYWHERE)


def test_rooms_are_entered_by_their_doors():
    """Doors are listed in DOORS."""
    nobody(lambda name: locked_doors(name, source_of(name)), among=EVERYWHERE)


def test_each_door_is_a_module_that_somebody_enters_by():
    entered = {module_of(d) for name in FILES for d in imported(source_of(name))
               if d.split(".")[1:2] != [room_of(name)]}  # fmt: skip
    listed = {f"{room}.{inside}" for room, doors in DOORS.items() for inside in doors}
    assert not listed - entered


def test_a_room_has_few_doors():
    many = {room: len(doors) for room, doors in DOORS.items()
            if len(doors) > MOST_DOORS.get(room, 12)}  # fmt: skip
    assert not many


def test_how_things_are_said_knows_no_engine():
    """A report must not load an engine because it says a sentence."""
    engines = ("batcher.pipeline", "batcher.pacing", "batcher.transport", "batcher.wiring")
    said = imported(source_of("cli/say.py"))
    assert not [dotted for dotted in said if dotted.startswith(engines)]


def test_no_folder_grows_beyond_a_wing():
    folders = Counter(str(Path(name).parent) for name in FILES if "__init__" not in name)
    assert not {folder: count for folder, count in folders.items() if count > WING}


def test_no_modules_import_each_other_in_a_circle():
    assert not circles()


def test_a_class_has_a_name_of_its_own():
    """The simulator stands apart: its words are its own."""
    named: dict[str, list[str]] = {}
    for name in FILES:
        if room_of(name) not in ISOLATED:
            for node in ast.walk(parsed(source_of(name))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    named.setdefault(node.name, []).append(name)
    assert not {name: files for name, files in named.items() if len(files) > 1}


def test_each_library_has_one_home():
    """Homes are listed in HOMES."""
    nobody(lambda name: homeless_libraries(name, source_of(name)), among=EVERYWHERE)


def test_only_the_configuration_reads_the_environment():
    elsewhere = EVERYWHERE - {"config"}
    nobody(lambda name: reads_of_the_environment(source_of(name)), among=elsewhere)


def test_nothing_else_lies_beside_the_rooms():
    """A report written while trying something out was committed once."""
    if not ((PROJECT / ".git").exists() and shutil.which("git")):
        pytest.skip("no git checkout: nobody can tell what belongs to it")
    git = ["git", "-c", f"safe.directory={PROJECT}", "ls-files"]  # whoever owns the folder
    listed = subprocess.run(git, cwd=PROJECT, capture_output=True, text=True, check=True)
    names = {name.split("/")[0] for name in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_no_file_outgrows_one_sitting():
    nobody(lambda name: excess(source_of(name)), among=EVERYWHERE)


def test_asynchronous_code_stays_in_its_rooms():
    nobody(lambda name: asynchronous_functions(source_of(name)), among=PLAIN_ROOMS)


def test_there_is_no_float_near_money():
    nobody(lambda name: floats(source_of(name)), among={"pricing"})


def test_a_released_migration_does_not_depend_on_code_that_changes():
    for path in (PROJECT / "migrations").rglob("*.py"):
        ours = {n for n in imported(path.read_text("utf-8")) if n.split(".")[0] == "batcher"}
        allowed = ("batcher.ledger",) if path.name == "env.py" else ()
        assert all(n.startswith(allowed) for n in ours), f"{path.name} imports {sorted(ours)}"


def test_every_library_that_is_used_is_declared():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [
        x for n, extra in extras.items() if n != "test" for x in extra
    ]
    declared = {re.split(r"[^\w-]", line)[0] for line in lines}
    tops = {dotted.split(".")[0] for name in FILES for dotted in imported(source_of(name))}
    assert {COMES_WITH.get(top, top) for top in tops & HOMES.keys()} <= declared


def test_help_loads_no_heavy_library():
    program = (
        "import runpy, sys\n"
        "sys.argv = ['batcher', '--help']\n"
        "try: runpy.run_module('batcher', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    assert not HEAVY & set(_child(program).stderr.split())


def test_no_command_loads_a_heavy_library_before_it_is_run():
    program = (
        "import sys\n"
        "from batcher.cli.menu import group\n"
        "from batcher.cli.menu import COMMANDS\n"
        "for name in COMMANDS: assert group.get_command(None, name), name\n"
        "print(*sys.modules)\n"
    )
    loaded = set(_child(program).stdout.split())
    assert "batcher.cli.run.run" in loaded
    assert not HEAVY & loaded


def test_a_run_loads_no_server_and_no_database_that_it_does_not_use():
    program = (
        "import sys\n"
        "import batcher.wiring, batcher.transport.live.live_lane, batcher.cli.run.run\n"
        "print(*sys.modules)\n"
    )
    loaded = set(_child(program).stdout.split())
    assert "aiohttp" in loaded
    assert not {m for m in loaded if m.startswith(("aiohttp.web_", "psycopg"))}
    assert not {m for m in loaded if m.startswith("sqlalchemy.dialects.postgresql")}


def _child(program: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)


# The rules themselves, against sources that break them.


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("pricing/rate/rating.py", "from batcher.ledger import schema"),
        ("pricing/rate/rating.py", "from batcher import ledger"),
        ("pricing/rate/rating.py", "import batcher.ledger.schema"),
        ("pricing/rate/rating.py", "import batcher\nbatcher.ledger.schema.answers"),
        ("messages/usage.py", "def late():\n    from batcher.pricing import rating"),
        ("messages/usage.py", "if TYPE_CHECKING:\n    from batcher.pricing import rating"),
        ("rows/jsonl.py", "from batcher.transport import interface"),
        ("ledger/write/writer.py", "importlib.import_module('batcher.rows.jsonl')"),
        ("ledger/write/writer.py", "import_module(f'batcher.rows.{name}')"),
        ("report/table.py", "import batcher.pipeline.run.run"),
        ("simulator/server.py", "from batcher.errors import Busy"),
        ("wiring/ready.py", "from batcher.simulator import server"),
        ("clock.py", "from batcher import errors"),
        ("config/tables.py", "from batcher import wiring"),
        ("messages/usage.py", "from batcher.attic import thing"),
        ("__main__.py", "from batcher.wiring import build"),
        ("__init__.py", "from batcher.errors import BatcherError"),
    ],
)
def test_an_arrow_that_points_up_or_sideways_is_found(name, source):
    assert wrong_arrows(name, source)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("pipeline/run/run.py", "from batcher.ledger.write.writer import Writer"),
        ("pipeline/run/run.py", "from batcher.pipeline import resume"),
        ("cli/run/demo.py", "from batcher.simulator import server"),
        (
            "cli/__init__.py",
            "import_module(f'batcher.cli.{name}')\nfrom batcher import __version__",
        ),
        ("ledger/migrate.py", "import batcher\nbatcher.__file__"),
        ("__main__.py", "from batcher.cli import main"),
    ],
)
def test_an_arrow_that_points_down_is_free(name, source):
    assert not wrong_arrows(name, source)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("pipeline/run/run.py", "import aiohttp"),
        ("transport/live/live_lane.py", "import aiohttp"),
        ("pipeline/run/run.py", "async def late():\n    from sqlalchemy import select"),
        ("report/summaries.py", "import rich.table"),
        ("rows/jsonl.py", "import jinja2.sandbox"),
        ("messages/request.py", "import requests"),
        ("messages/request.py", "__import__(name)"),
        ("messages/request.py", "from . import usage"),
    ],
)
def test_a_library_away_from_home_is_found(name, source):
    assert homeless_libraries(name, source)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A']",
        "from os import environ",
        "def f():\n    return os.getenv('A')",
    ],
)
def test_a_look_at_the_environment_is_found(source):
    assert reads_of_the_environment(source)
