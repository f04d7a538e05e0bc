"""What a failed exchange means; all that aiohttp and the TLS library raise ends here."""

import os
import ssl
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError

from batcher.messages.failure import Verdict
from batcher.transport.live.mask import Mask
from batcher.transport.live.wire import NotConnected, Withheld


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


def send_error(exc: Exception, mask: Mask) -> SendError:
    """What `exc` means for the attempt: whether it left, and whether another may succeed."""
    if isinstance(exc, Withheld):
        return SendError("lease_not_renewed", str(exc), left=False)
    if _alert(exc) in _WANTS_CERTIFICATE:
        return _stopped(
            "client_certificate",
            "the server asks for a client certificate, or refuses ours: set client_certificate "
            "and client_key for this endpoint",
        )
    if isinstance(exc, NotConnected):
        return _not_connected(exc.__cause__ or exc, mask)
    error_type = next(word for kind, word in _CONNECTED if isinstance(exc, kind))
    return SendError(error_type, _words(exc, mask), left=True)


def _not_connected(cause: BaseException, mask: Mask) -> SendError:
    error_type = next(
        (word for kind, word in _NOT_CONNECTED if isinstance(cause, kind)), "unreachable"
    )
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return _proxy_refused(cause, mask)
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return _stopped("certificate", _about_certificate(cause))
    return SendError(error_type, _words(cause, mask), left=False)


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
