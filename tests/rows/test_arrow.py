"""How pyarrow is loaded: with the system's allocator, and whole."""

import os
import subprocess
import sys

import pytest
from pyarrow import fs

POOL = "ARROW_DEFAULT_MEMORY_POOL"
LOADED = """
from batcher.wiring.process import keep_little_memory
keep_little_memory()
from batcher.rows.read.parquet import pa
print(pa.default_memory_pool().backend_name)
"""


@pytest.mark.parametrize(("chosen", "used"), [("", "system"), ("mimalloc", "mimalloc")])
def test_a_run_lets_pyarrow_use_the_systems_allocator(chosen, used):
    environment = {name: value for name, value in os.environ.items() if name != POOL}
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=environment | ({POOL: chosen} if chosen else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [used]


READS = "import batcher.rows.read.parquet"
REMOTE = "from pyarrow import fs; assert hasattr(fs, 'S3FileSystem')"


@pytest.mark.skipif(not hasattr(fs, "S3FileSystem"), reason="this pyarrow has no S3")
@pytest.mark.parametrize("program", [f"{READS}; {REMOTE}", f"{REMOTE}; {READS}; {REMOTE}"])
def test_remote_file_systems_stay_usable_in_the_same_process(program):
    """As a library, in a program that also reads from a remote store."""
    subprocess.run([sys.executable, "-c", program], check=True)
