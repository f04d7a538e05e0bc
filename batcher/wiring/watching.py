"""The monitors that the settings ask for, around one command."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from batcher.clock import SystemClock
from batcher.config.files import environment_of
from batcher.config.keys import masked, secret_from
from batcher.config.tables import HeaderValue, NotifyTable, Settings
from batcher.errors import BatcherError, ConfigurationError, limit_reached
from batcher.monitoring.metrics_file import MetricsFile
from batcher.monitoring.monitors import Command, Monitor, Monitors, Ping, Post, Webhook, poster
from batcher.monitoring.run_log import LogFile, RunLog, to_stderr
from batcher.outputs import is_url
from batcher.pipeline.choices import LogFormat
from batcher.rows.read.source import shown
from batcher.transport.endpoint import Secret
from batcher.transport.proxy import FROM_ENVIRONMENT, VARIABLES, route_to
from batcher.wiring.process import OwnProcess, Process
from batcher.wiring.ready import guard_of_run
from batcher.wiring.resolve import Asked, merged_settings

_UNEXPECTED: Final = "stopped by something unexpected"


def watched(
    typed: Asked,
    run: Callable[[Monitors], int],
    *,
    verbose: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    process: Process = OwnProcess(),  # noqa: B008 - has no state
) -> int:
    """What `run` gives, while everything that the settings name watches it.

    `verbose`: what happens is told on standard error, too. `tell` hears at the end which log,
    metrics file or watch heard less than there was.
    """
    settings = merged_settings(typed)
    _check_files(typed, settings)
    if settings.log_file:
        process.log()
    monitors = Monitors(list(_monitors(settings, _job_name(typed), verbose=verbose)))
    monitors.begin()
    try:
        return _finished(monitors, run)
    finally:
        for trouble in monitors.troubles:
            tell(masked(trouble))


def _finished(monitors: Monitors, run: Callable[[Monitors], int]) -> int:
    """What `run` gives, of which the monitors hear how it ended."""
    try:
        code = run(monitors)
    except BatcherError as exc:
        monitors.finish(exc.exit_code, masked(str(exc)))
        raise
    except Exception as exc:
        limit = limit_reached(exc)
        if limit is None:
            monitors.finish(BatcherError.exit_code, _UNEXPECTED)
            raise
        monitors.finish(limit.exit_code, str(limit))
        raise limit from exc
    except BaseException as exc:  # a signal that nothing else heeded has a code of its own
        its_own = getattr(exc, "exit_code", None)
        monitors.finish(its_own or BatcherError.exit_code, str(exc) if its_own else _UNEXPECTED)
        raise
    monitors.finish(code)
    return code


def _check_files(typed: Asked, settings: Settings) -> None:
    """Raise for a log or a metrics file in the place of an input or a ledger, or in none."""
    names = {"log_file": settings.log_file, "metrics_file": settings.metrics_file}
    named = {setting: name for setting, name in names.items() if name}
    for setting, name in named.items():
        if is_url(name):  # which may hold a key: it is not repeated
            raise ConfigurationError(f"{setting} is an address: name a file of this machine")
    if named:
        guard = guard_of_run(typed)
        for name in named.values():
            guard.check(Path(name))


def _job_name(typed: Asked) -> str:
    if typed.job_path:
        return typed.job_path.stem
    return masked(" ".join(map(shown, typed.inputs))) or "batcher"


def _monitors(settings: Settings, job: str, *, verbose: bool) -> Iterator[Monitor]:
    clock = SystemClock()
    form = settings.log_format or LogFormat.TEXT
    if settings.log_file:
        yield RunLog(LogFile(Path(settings.log_file)), form, clock)
    elif form is LogFormat.JSON:
        yield RunLog(to_stderr, form, clock)
    if verbose and (settings.log_file or form is not LogFormat.JSON):
        yield RunLog(to_stderr, LogFormat.TEXT, clock)
    if settings.metrics_file:
        yield MetricsFile(Path(settings.metrics_file), job, clock)
    if settings.ping_url:
        url = _address("ping_url", settings.ping_url)
        yield Ping(url, _poster(url), clock)
    yield from _told(settings.notify or NotifyTable(), job)


def _told(notify: NotifyTable, job: str) -> Iterator[Monitor]:
    if notify.command:
        yield Command(notify.command, job)
    if notify.webhook:
        url = _address("webhook of [notify]", notify.webhook)
        yield Webhook(url, _poster(url), job, SystemClock())


def _address(name: str, value: HeaderValue) -> Secret:
    url = secret_from(name, value)
    try:
        parts = urlsplit(url.reveal())
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or not url.reveal().isprintable() or " " in url.reveal():
        raise ConfigurationError(f"{name} is no address: write https://…")
    if "@" in parts.netloc:  # nothing here would send it
        raise ConfigurationError(
            f"{name} holds a user or password, which is never sent: use an"
            " address that needs none"
        )
    return url


def _poster(url: Secret) -> Post:
    names = [spelled for name in VARIABLES for spelled in (name, name.upper())]
    return poster(route_to(url.reveal(), FROM_ENVIRONMENT, environment_of(names)))
