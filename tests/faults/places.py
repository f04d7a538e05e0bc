"""Faults before a request can leave: names, connections, TLS. Nothing was sent, ever."""

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.faults.kinds import Stage
from tests.transport.servers import free_port

CERTIFICATE = Path(__file__).parent.parent / "transport/loopback.pem"  # signed by itself
_RESET = b"\x01\0\0\0\0\0\0\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceFault:
    """A base URL at which nobody can be spoken to."""

    id: str
    stage: Stage
    place: Callable[[], AbstractContextManager[str]]
    reason: str
    expected: str = "not_sent"
    is_silent: bool = False  # so that only time tells
    exit: int = 69


@contextmanager
def _nobody() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def _deaf() -> Iterator[str]:
    """A socket that listens and never accepts: its queue is full."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for caller in (first, second):
            caller.setblocking(False)
            caller.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def _speaking(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server whose connections are handled by `speak`, which need not read anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return  # the test is over
                with connection:
                    speak(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def _says(words: bytes, connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(words)


def _resets(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _waits(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass  # until the client goes away


def _shakes_hands(version: ssl.TLSVersion | None, connection: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is as old as that
            context.minimum_version = context.maximum_version = version
    with suppress(OSError):  # the client thinks better of it
        context.wrap_socket(connection, server_side=True).close()


def _at(url: str) -> Callable[[], AbstractContextManager[str]]:
    return lambda: nullcontext(url)


def _tls(
    id_: str, speak: Callable[[socket.socket], None], reason: str, exit_code: int = 69
) -> PlaceFault:
    return PlaceFault(
        id=id_, stage=Stage.TLS, place=lambda: _speaking(speak), reason=reason,
        is_silent=speak is _waits, exit=exit_code,
    )  # fmt: skip


_TLS_1_1 = ssl.TLSVersion.TLSv1_1
# An older OpenSSL says that the handshake failed, a newer one why.
_ITS_NAME = "client_certificate" if ssl.OPENSSL_VERSION_INFO < (3, 2) else "tls_version"

PLACES = [
    PlaceFault(
        id="a name that nobody has",
        stage=Stage.DNS,
        place=_at("https://nowhere.invalid"),
        reason="name_not_found",
    ),
    PlaceFault(
        id="a name in other letters",
        stage=Stage.DNS,
        place=_at("https://xn--a.invalid"),
        reason="name_not_found",
    ),
    PlaceFault(id="refused", stage=Stage.CONNECT, place=_nobody, reason="unreachable"),
    PlaceFault(
        id="refused on IPv6",
        stage=Stage.CONNECT,
        place=_at("http://[::1]:1"),
        reason="unreachable",
    ),
    PlaceFault(
        id="never accepted",
        stage=Stage.CONNECT,
        place=_deaf,
        reason="unreachable",
        is_silent=True,
    ),
    _tls("a certificate signed by itself", partial(_shakes_hands, None), "certificate", 78),
    _tls("a version of long ago", partial(_shakes_hands, _TLS_1_1), _ITS_NAME, 78),
    _tls("a server without TLS", partial(_says, b"HTTP/1.1 400 plain\r\n\r\n"), "tls"),
    _tls("an alert", partial(_says, b"\x15\x03\x03\0\x02\x02\x28"), "client_certificate", 78),
    _tls("FIN in the handshake", partial(_says, b""), "unreachable"),
    _tls("RST in the handshake", _resets, "unreachable"),
    _tls("silence in the handshake", _waits, "unreachable"),
]
