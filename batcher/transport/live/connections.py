"""What connections are made of: sockets, whom to trust, and who we are.

The last two where an endpoint says more about it than the system does.
"""

import socket
import ssl
from pathlib import Path
from typing import Any

from batcher.errors import ConfigurationError
from batcher.transport.endpoint import Endpoint


def keep_alive_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices a vanished peer during the minutes in which a model thinks."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """The endpoint's own context; `True` where the system's default is meant.

    The system's authorities are those of OpenSSL: `SSL_CERT_FILE` and `SSL_CERT_DIR` name
    others. `ca_file` adds to them. Raises `ConfigurationError` for a file that is of no use.
    """
    if endpoint.client_key and not endpoint.client_certificate:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: client_key goes with client_certificate; name both"
        )
    if not (endpoint.ca_file or endpoint.client_certificate):
        return True
    context = ssl.create_default_context()
    if endpoint.ca_file:
        _trust(context, endpoint.name, Path(endpoint.ca_file))
    if endpoint.client_certificate:
        _show(context, endpoint)
    return context


def _trust(context: ssl.SSLContext, name: str, path: Path) -> None:
    try:
        if path.is_dir():
            _trust_folder(context, path)
        else:
            _trust_file(context, path)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"endpoint {name}: ca_file {path} holds no authorities: {exc}"
        ) from exc


def _trust_folder(context: ssl.SSLContext, folder: Path) -> None:
    """Every certificate of a folder, whatever its files are called."""
    files = sorted(path for path in folder.iterdir() if path.suffix in {".pem", ".crt", ".cer"})
    if not files:
        raise FileNotFoundError(f"no .pem, .crt or .cer file lies in {folder}")
    for path in files:
        _trust_file(context, path)


def _trust_file(context: ssl.SSLContext, path: Path) -> None:
    """Certificates in PEM form, or one in DER form, as Windows exports it."""
    content = path.read_bytes()
    if b"-----BEGIN" in content:
        context.load_verify_locations(cafile=path)
    else:
        context.load_verify_locations(cadata=content)


def _show(context: ssl.SSLContext, endpoint: Endpoint) -> None:
    certificate, key = str(endpoint.client_certificate), endpoint.client_key
    try:
        context.load_cert_chain(certificate, key, password=_ask_nobody)
    except OSError as exc:
        raise ConfigurationError(
            f"endpoint {endpoint.name}: client_certificate {certificate} and its client_key "
            f"cannot be used: {exc}"
        ) from exc


def _ask_nobody() -> str:
    """No password: OpenSSL would ask for one on the terminal."""
    return ""
