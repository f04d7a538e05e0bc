"""What connections are made of, and what it means when one fails.

They are sockets, whom to trust and who we are, the last two where an endpoint says more about
it than the system does. All that aiohttp and the TLS library raise of an exchange ends here.
"""

import errno
import os
import socket
import ssl
from pathlib import Path
from typing import Any, Final, TypeGuard

import aiohttp
from aiohttp.http import HttpProcessingError

from batcher.errors import ConfigurationError
from batcher.messages.failure import Verdict
from batcher.transport.endpoint import Endpoint, Route, is_loopback
from batcher.transport.live.mask import Mask
from batcher.transport.live.wire import NotConnected, Withheld


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


class SendError(Exception):
    """No whole answer came. `left` tells whether the request may have reached the server."""

    def __init__(
        self,
        error_type: str,
        message: str,
        *,
        left: bool,
        verdict: Verdict = Verdict.RETRY_ROW,
    ) -> None:
        super().__init__(error_type, message)
        self.error_type = error_type
        self.message = message
        self.left = left
        self.verdict = verdict


# What is raised when an exchange fails.
TROUBLES: Final = (
    Withheld,
    NotConnected,
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    TimeoutError,
)

# Before a connection is there nothing was sent, whatever happened. First match wins.
_NOT_CONNECTED: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "name_not_found"),
    (aiohttp.ClientProxyConnectionError, "proxy_unreachable"),
    (aiohttp.ClientHttpProxyError, "proxy"),
    (aiohttp.ClientConnectorSSLError, "tls"),
    (Exception, "unreachable"),
)
# Afterwards the server may have done the work.
_CONNECTED: Final[tuple[tuple[type[Exception], str], ...]] = (
    (TimeoutError, "timeout"),
    (aiohttp.ClientPayloadError, "broken_answer"),
    (aiohttp.ClientResponseError, "broken_answer"),
    (HttpProcessingError, "broken_answer"),
    (Exception, "connection_lost"),
)
# OpenSSL's codes of what is wrong with a certificate.
_OTHER_NAME: Final = frozenset({62, 64})
_OTHER_TIME: Final = frozenset({9, 10})
# How a server says, by OpenSSL's name of its alert, that it wants another certificate of ours.
# TLS 1.3 says it after our first request, which it has not read.
_WANTS_CERTIFICATE: Final = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED",
    }
)
# How it says, or we do, that no version of TLS is known to both; by the age of OpenSSL.
_OTHER_VERSION: Final = frozenset(
    {
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "NO_PROTOCOLS_AVAILABLE",
        "VERSION_TOO_LOW",
    }
)


def send_error(exc: Exception, mask: Mask, route: Route) -> SendError:
    """What `exc` means for the attempt: whether it left, and whether another may succeed."""
    if isinstance(exc, Withheld):
        return SendError("lease_not_renewed", str(exc), left=False)
    if _alert(exc) in _WANTS_CERTIFICATE:
        return _stopped(
            "client_certificate",
            "the server asks for a client certificate, or refuses ours: set client_certificate "
            "and client_key for this endpoint",
        )
    if _alert(exc) in _OTHER_VERSION:
        return _stopped("tls_version", "the server and this machine share no version of TLS")
    if isinstance(exc, NotConnected):
        return _not_connected(exc.__cause__ or exc, mask, route)
    error_type = next(word for kind, word in _CONNECTED if isinstance(exc, kind))
    return SendError(error_type, _words(exc, mask), left=True)


def _not_connected(cause: BaseException, mask: Mask, route: Route) -> SendError:
    error_type = next(
        (word for kind, word in _NOT_CONNECTED if isinstance(cause, kind)), "unreachable"
    )
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return _proxy_refused(cause, mask)
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return _stopped("certificate", _about_certificate(cause))
    said = _words(cause, mask)
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        said = f"{said}; {_about_name(route)}"
    elif _nobody_listens_here(cause):
        said = f"{said}; start the server (batcher simulate --port {cause.port}, if it is that)"
    return SendError(error_type, said, left=False)


def _nobody_listens_here(cause: BaseException) -> TypeGuard[aiohttp.ClientConnectorError]:
    """Whether it is a port of this machine which nothing is behind."""
    return (
        isinstance(cause, aiohttp.ClientConnectorError)
        and not isinstance(cause, aiohttp.ClientProxyConnectionError)
        and cause.os_error.errno == errno.ECONNREFUSED
        and is_loopback(cause.host)
    )


def _about_name(route: Route) -> str:
    """What to do where a name has no address: behind a proxy only the proxy's own needs one."""
    if route.proxy:
        return f'correct the proxy ({route.why}), or say proxy = "none" for this endpoint'
    known = f" (it is reached directly: {route.why})" if route.why else ""
    return (
        f"check base_url{known}; where the way out is a proxy, set HTTPS_PROXY, or proxy for "
        "this endpoint"
    )


def _about_certificate(exc: aiohttp.ClientConnectorCertificateError) -> str:
    inner = exc.certificate_error
    if not isinstance(inner, ssl.SSLCertVerificationError):
        return f"the server's certificate cannot be used: {inner}"
    what = f"({inner.verify_message.rstrip('.')})"
    if inner.verify_code in _OTHER_NAME:
        return (
            f"the server's certificate is for another name {what}: write the name that it holds"
            " into base_url"
        )
    if inner.verify_code in _OTHER_TIME:
        return (
            f"the server's certificate is not valid at this time {what}: check this machine's"
            " clock, or have the certificate renewed"
        )
    return (
        f"the server's certificate is not trusted {what}: where your company "
        "has an authority of its own, set ca_file for this endpoint, or SSL_CERT_FILE"
    )


def _proxy_refused(refusal: aiohttp.ClientHttpProxyError, mask: Mask) -> SendError:
    said = f"the proxy answered HTTP {refusal.status}: {mask.text(str(refusal.message))[:200]}"
    if refusal.status == 407:
        verdict = Verdict.STOP_ACCESS
        said += "; put user and password into the proxy's URL"
    elif 400 <= refusal.status < 500:
        verdict = Verdict.STOP_CONFIGURATION
        said += '; name another proxy, or proxy = "none" for this endpoint'
    else:
        verdict = Verdict.RETRY_ROW
    return SendError("proxy", said, left=False, verdict=verdict)


def _stopped(error_type: str, message: str) -> SendError:
    verdict = Verdict.STOP_CONFIGURATION
    return SendError(error_type, message, left=False, verdict=verdict)


def _alert(exc: BaseException | None) -> str | None:
    """OpenSSL's name of the TLS alert that ended the connection, if one did."""
    while exc is not None:  # aiohttp wraps what asyncio was given
        reason = getattr(exc, "reason", None)
        if isinstance(exc, ssl.SSLError) and isinstance(reason, str):
            return reason
        exc = exc.__cause__ or exc.__context__
    return None


def _reason_of_system(exc: OSError) -> str:
    """As the system says it; libraries put their own words and the address into it."""
    number = 0 if isinstance(exc, ssl.SSLError) else exc.errno or 0
    return os.strerror(number) if number > 0 else exc.strerror or str(exc)


def _words(exc: BaseException, mask: Mask) -> str:
    """What is said of it, without the status that aiohttp puts before its parser's words."""
    said = exc.message if isinstance(exc, HttpProcessingError) else f"{exc}"
    if isinstance(exc, aiohttp.ServerDisconnectedError):  # says all that came of the answer
        said = "the server closed the connection before its answer was complete"
    if isinstance(exc, aiohttp.ClientConnectorError):
        said = f"{exc.host}:{exc.port}: {_reason_of_system(exc.os_error)}"
    return mask.text(" ".join(said.split()))[:300] or type(exc).__name__
