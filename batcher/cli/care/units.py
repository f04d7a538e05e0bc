"""The line of a crontab and the units of systemd that start a job."""

import math
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from batcher.wiring import ScheduledJob

_GRACE_SECONDS: Final = 30  # to record what a drain brought in, and to write the output
_LONGEST_NAME: Final = 44  # Kubernetes allows 52 for a CronJob, with what we put before

_SERVICE: Final = """\
[Unit]
Description=batcher job {name}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={user}
WorkingDirectory={folder}
ExecStart={command}
NoNewPrivileges=true
# 65: finished, some rows have no answer. 75: time is over or another run is on.
SuccessExitStatus=65 75
# Trouble that passes is tried again; what a person must correct is not.
Restart=on-failure
RestartSec=10min
RestartPreventExitStatus=2 70 73 77 78
# SIGTERM lets what is in flight finish, for at most {drain:g} seconds (drain_timeout_seconds).
TimeoutStopSec={stop}
"""

_TIMER: Final = """\
[Unit]
Description=batcher job {name}

[Timer]
{calendar}
Persistent=true

[Install]
WantedBy=timers.target
"""


def unit_name(job: "ScheduledJob") -> str:
    """A name for units that every scheduler takes."""
    plain = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")[:_LONGEST_NAME]
    return f"batcher-{plain.strip('-') or 'job'}"


def program() -> list[str]:
    """This program, by its whole path."""
    beside = Path(sys.executable).with_name("batcher")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "batcher"]


def run_words(job: "ScheduledJob") -> list[str]:
    """The command that runs the job from any folder, behind the program."""
    config = ["--config", str(job.config_path)] if job.config_path else []
    return ["run", str(job.path), *config]


def stop_seconds(job: "ScheduledJob") -> int:
    """How long the job may take to end when it is told to."""
    return math.ceil(job.drain_seconds) + _GRACE_SECONDS


def crontab(job: "ScheduledJob") -> str:
    """A line for `crontab -e`; with a time zone, a line before it."""
    words = [*program(), *run_words(job), "--quiet"]
    line = f"{job.cron.text}  {shlex.join(words)}".replace("%", r"\%")
    if job.zone is None:
        return f"{line}\n"
    return (
        "# cronie obeys CRON_TZ, for all lines after it; other crons take the machine's time.\n"
        f"CRON_TZ={job.zone}\n{line}\n"
    )


def systemd(job: "ScheduledJob", user: str) -> dict[str, str]:
    """The text of each unit, by the kind that its file name ends with."""
    calendar = "\n".join(f"OnCalendar={line}" for line in job.cron.calendar(job.zone))
    service = _SERVICE.format(
        name=_plain(job.name),
        user=user,
        folder=_plain(str(job.path.parent)),
        command=_exec([*program(), *run_words(job)]),
        drain=job.drain_seconds,
        stop=stop_seconds(job),
    )
    return {
        "service": service,
        "timer": _TIMER.format(name=_plain(job.name), calendar=calendar),
    }


def _exec(words: Sequence[str]) -> str:
    """As `ExecStart` reads it: in quotes where needed, nothing of it a variable."""
    return " ".join(_quoted(word.replace("%", "%%").replace("$", "$$")) for word in words)


def _quoted(word: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./$-]+", word, re.ASCII):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(text: str) -> str:
    """Without specifiers."""
    return text.replace("%", "%%")
