"""How pyarrow is loaded: without remote file systems, and with the system's allocator."""

import os
import subprocess
import sys

import pytest

POOL = "ARROW_DEFAULT_MEMORY_POOL"
LOADED = """
import sys
from batcher.wiring.process import keep_little_memory
keep_little_memory()
from batcher.rows.read.arrow import pa, pq
print(pa.default_memory_pool().backend_name)
print(sorted(name for name in sys.modules if name.endswith("fs") and "pyarrow._" in name))
"""


@pytest.mark.parametrize(("chosen", "used"), [("", "system"), ("mimalloc", "mimalloc")])
def test_a_run_loads_of_pyarrow_what_it_needs(chosen, used):
    environment = {name: value for name, value in os.environ.items() if name != POOL}
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=environment | ({POOL: chosen} if chosen else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    pool, remote = done.stdout.splitlines()
    assert pool == used
    assert remote == "['pyarrow._fs']"


def test_what_was_loaded_before_stays():
    """As a library, in a program that reads from a remote store."""
    program = (
        "from pyarrow import fs\n"
        "before = set(vars(fs))\n"
        "import sys\n"
        "import batcher.rows.read.arrow\n"
        "assert before <= set(vars(fs))\n"
        "assert None not in sys.modules.values()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
