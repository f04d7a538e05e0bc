"""`batcher` for shells: a small program that has a forked process do what was typed.

Pages, schedulers and terminals type `batcher` into real shells, where most of what a command
costs is its imports. The program hands its words, its folder, its environment and its streams
to this process, ends as the command does, and passes on the signals it gets.
"""

import contextlib
import marshal
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

from tests.e2e.forked import Forked

# No module that is not there at the start is imported: it takes 15 ms.
CLIENT = """\
#!{python} -ISE
import _signal, _socket, marshal, os, sys
door = _socket.socket(_socket.AF_UNIX)
door.connect({address!r})
said = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ)))
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)
door.sendmsg([len(said).to_bytes(4, "big")], [rights])
door.sendall(said)
process = int.from_bytes(door.recv(4), "big")
for number in (1, 2, 15):
    _signal.signal(number, lambda number, _: os.kill(process, number))
code = int.from_bytes(door.recv(4), "big", signed=True)
if code < 0:
    _signal.signal(-code, _signal.SIG_DFL) if code != -9 else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextmanager
def shell_program(folder: Path) -> Iterator[Path]:
    """A folder with the program `batcher` in it, which works until this ends."""
    program = folder / "batcher"
    with socket.socket(socket.AF_UNIX) as door:
        # The name of a socket is short, and that of a test's folder is long.
        door.bind(address := f"\0{os.urandom(16).hex()}")
        door.listen(64)
        program.write_text(CLIENT.format(python=sys.executable, address=address))
        program.chmod(0o755)
        threading.Thread(target=_serve, args=(door,)).start()
        yield folder
        door.shutdown(socket.SHUT_RDWR)


def _serve(door: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was shut down
        while True:
            threading.Thread(target=_do, args=(door.accept()[0],)).start()


def _do(client: socket.socket) -> None:
    """Be the command for one client; where that goes away, so does the process."""
    with client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process = _begin(client)
        wait([process.sentinel, client])
        process.kill()
        client.sendall(process.wait().to_bytes(4, "big", signed=True))


def _begin(client: socket.socket) -> Forked:
    length, streams, *_ = socket.recv_fds(client, 4, 3)
    with client.makefile("rb") as said:
        words, folder, environment = marshal.loads(said.read(int.from_bytes(length, "big")))
    given = dict(zip(("stdin", "stdout", "stderr"), streams, strict=True))
    process = Forked(words, folder=Path(folder), environment=environment, **given)
    for stream in streams:
        os.close(stream)
    client.sendall(process.pid.to_bytes(4, "big"))
    return process
