"""pyarrow without the file systems of remote stores, where no input is: they take 3 MB."""

import sys
from typing import Final

_REMOTE: Final = ("pyarrow._s3fs", "pyarrow._gcsfs", "pyarrow._azurefs", "pyarrow._hdfs")
_left_out: Final = [name for name in _REMOTE if name not in sys.modules]

sys.modules.update(dict.fromkeys(_left_out))  # type: ignore[arg-type]  # None: not importable
try:
    import pyarrow as pa
    from pyarrow import parquet as pq
finally:
    for _name in _left_out:
        del sys.modules[_name]

__all__ = ["pa", "pq"]
