"""Which step of the commit protocol a system call of a run on SQLite is."""

from collections.abc import Iterable
from pathlib import PurePath

from tests.e2e.system_calls import Call

CALLS = (
    "fcntl,openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink,connect,read,sendto,recvfrom"
)
_WRITES, _SYNCS = {"pwrite64", "write"}, {"fsync", "fdatasync"}


def steps_of(calls: Iterable[Call], database: PurePath, rows: int) -> list[str]:
    """The step of each call; "" for those that have nothing to do with it.

    `rows` is how many requests there are to send: what is written after the last answer has
    another name than what is written before a request.
    """
    walk = _Walk(database, rows)
    return [walk.step(call) for call in calls]


class _Walk:
    """Goes through the calls of one process and remembers how far it got."""

    def __init__(self, database: PurePath, rows: int) -> None:
        self._names = {
            str(database) + suffix: suffix
            for suffix in ("", "-wal", "-shm", "-journal", ".lock")
        }
        self._folder = str(database.parent)
        self._rows = rows
        self._main: int | None = None
        self._writer: int | None = None
        self._is_new = False
        self._has_lock = False
        self._is_header_new = False
        self._sent = self._answered = self._settled = 0
        self._kind = ""  # of the transaction that is being written
        self._synced = ""  # the kind of the last one, until it is acknowledged

    def step(self, call: Call) -> str:
        self._main = self._main or call.thread
        if call.name == "fcntl":
            return self._file_lock(call)
        match self._names.get(call.path):
            case None:
                return self._elsewhere(call)
            case ".lock":
                return self._lock(call)
            case "-wal":
                return self._log(call)
            case "-shm":
                return _named(call, "index")
            case "-journal":
                return _named(call, "journal")
            case _:
                return self._database(call)

    def _file_lock(self, call: Call) -> str:
        is_after_sync = bool(self._synced) and call.thread == self._writer
        return f"{self._synced}: unlock" if is_after_sync else ""

    def _elsewhere(self, call: Call) -> str:
        if call.path == self._folder and call.name in _SYNCS:
            return "folder: sync"
        if call.path.startswith("socket:"):
            return self._socket(call)
        if call.name == "write" and call.thread == self._writer and self._synced:
            kind, self._synced = self._synced, ""
            return f"{kind}: acknowledge"
        return ""

    def _socket(self, call: Call) -> str:
        first = call.texts[0] if call.texts else b""
        match call.name:
            case "connect" if not first.startswith(b"/"):
                return "request: connect"
            case "write" | "sendto" if first.startswith(b"POST"):
                self._sent += 1
                return "request: send"
            case "read" | "recvfrom" if self._sent > self._answered:
                self._answered += first.startswith(b"HTTP/1.1")
                return "answer: read"
        return ""

    def _lock(self, call: Call) -> str:
        if call.name == "openat":
            return "lock: open"
        if call.name == "pwrite64" and call.texts != [b""]:
            self._has_lock = True
            return "lock: write"
        return f"lock: {'clear' if self._has_lock else 'write'}"

    def _log(self, call: Call) -> str:
        if call.name == "pwrite64" and len(call.numbers) > 1 and call.numbers[-1] > 0:
            if call.thread != self._main:
                self._writer = call.thread
            return self._frame(call)
        if call.name in _SYNCS and self._kind:
            self._synced, self._kind = self._kind, ""
            return f"{self._synced}: sync"
        if call.name in _SYNCS and not self._is_header_new:
            return f"{self._checkpoint(call)}: sync the log"
        self._is_header_new = call.name == "pwrite64"
        return _named(call, "log")

    def _frame(self, call: Call) -> str:
        self._is_header_new = False
        if self._kind:
            return f"{self._kind}: frame"
        self._kind = self._kind_of(call)
        self._synced = ""
        return f"{self._kind}: first frame"

    def _kind_of(self, call: Call) -> str:
        if call.thread == self._main and self._writer is None:
            kind = "schema" if self._is_new else "start"
            self._is_new = False
            return kind
        if self._answered > self._settled:
            self._settled = self._answered
            return "settlement"
        return "intent" if self._sent < self._rows else "end"

    def _database(self, call: Call) -> str:
        if call.name == "openat":
            is_made = 600 in call.numbers and not call.failed
            self._is_new = self._is_new or is_made
            return "database: make" if is_made else "database: open"
        if self._is_new:
            return _named(call, "database")
        return _named(call, self._checkpoint(call))

    def _checkpoint(self, call: Call) -> str:
        is_closing = call.thread == self._main and self._writer is not None
        return "close" if is_closing else "checkpoint"


def _named(call: Call, what: str) -> str:
    if call.name in _WRITES:
        return f"{what}: write"
    if call.name in _SYNCS:
        return f"{what}: sync"
    return f"{what}: " + {"openat": "open", "ftruncate": "cut", "unlink": "remove"}[call.name]
