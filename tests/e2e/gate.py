"""A way to the simulator that can be shut, so that a run stays where a test wants it."""

import contextlib
import select
import socket
import threading


class Gate:
    """Forwards requests to a simulator and lets `answers` answers through; later ones wait.

    A run all of whose workers wait for an answer does nothing more, however late somebody
    looks: all that it sent was billed, nothing is half done. `open` lets everything through.
    """

    def __init__(self, url: str, answers: int) -> None:
        self._simulator = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._left = answers
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads = [threading.Thread(target=self._accept)]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.waiting = 0  # answers that came and were not let through
        self._threads[0].start()

    def open(self) -> None:
        """Let the answers go that wait, and all others."""
        self._opened.set()

    def close(self) -> None:
        """Cut everything off and end."""
        self.open()
        _cut(self._listener)
        self._threads[0].join()
        for end in self._ends:
            _cut(end)
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._ends.append(client)
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket()
        with client, server, contextlib.suppress(OSError):
            server.connect(self._simulator)
            self._ends.append(server)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._forward(client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Until one end closes; no request follows another before that one was answered."""
        is_asked = False
        while True:
            for end in select.select([client, server], [], [])[0]:
                data = end.recv(65536)
                if not data:
                    return
                if end is client:
                    is_asked = True
                    server.sendall(data)
                    continue
                if is_asked:
                    is_asked = False
                    self._let_through()
                client.sendall(data)

    def _let_through(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left >= 0:
                return
            self.waiting += 1
        self._opened.wait()


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
