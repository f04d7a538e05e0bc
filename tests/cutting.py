"""A proxy in front of PostgreSQL that cuts connections around COMMIT, or everywhere at once."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.databases import PATIENTLY, PostgresServer, _run

SOCKET = ".s.PGSQL.5432"
COMMIT = b"COMMIT\0"


class CuttingProxy:
    """Forwards a Unix socket in `folder` to the server's, and cuts what it is told to cut.

    `cut_before` and `cut_after` are numbers of COMMITs, counted from 1 over all connections:
    the first kind never reach the server, the second do and get no answer.
    """

    def __init__(self, folder: Path, server: PostgresServer) -> None:
        self.folder = folder
        self.cut_before: set[int] = set()
        self.cut_after: set[int] = set()
        self.commits = 0
        self._target = str(server.folder / SOCKET)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen()
        self._start(self._accept)

    def url(self, server_url: str) -> str:
        """The same database through the proxy."""
        return f"{server_url.partition('?')[0]}?host={self.folder}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            _cut(each)
        for thread in self._threads:
            thread.join()

    def _start(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._target)
                except OSError:
                    client.close()
                    server.close()
                    continue
                self._open += [client, server]
                self._start(self._to_server, client, server)
                self._start(self._to_client, client, server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        _cut(client)
        _cut(server)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                cut = self._look(data)
                if cut == "before":
                    break
                if cut == "after":
                    _cut(client)  # the server works on it, and talks to nobody
                server.sendall(data)
        _cut(client)
        _cut(server, socket.SHUT_WR)

    def _look(self, data: bytes) -> str:
        with self._lock:
            for _ in range(data.count(COMMIT)):
                self.commits += 1
                if self.commits in self.cut_before:
                    return "before"
                if self.commits in self.cut_after:
                    return "after"
        return ""


def _cut(end: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(how)


@contextlib.contextmanager
def cutting(folder: Path, server: PostgresServer) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(folder, server)
    try:
        yield proxy
    finally:
        proxy.close()
        for each in proxy._open:
            each.close()


def stop_server(server: PostgresServer) -> Path:
    """Stop it at once, as a crash would; the folder of its programs, to start it again."""
    data = server.folder / "data"
    number = int((data / "postmaster.pid").read_text().split()[0])
    programs = Path(f"/proc/{number}/exe").readlink().parent
    _run(programs / "pg_ctl", "-D", data, *PATIENTLY, "-m", "immediate", "stop")
    return programs


def start_server(server: PostgresServer, programs: Path) -> None:
    _run(
        programs / "pg_ctl",
        "-D",
        server.folder / "data",
        *PATIENTLY,
        "-l",
        server.folder / "log",
        "start",
    )


__all__ = ["CuttingProxy", "cutting", "start_server", "stop_server"]
