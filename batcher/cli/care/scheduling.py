"""What starts a job by its schedule: a crontab's line, systemd's units, a CronJob."""

import json
import math
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batcher.errors import ConfigurationError

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


_USER: Final = 10001  # the one that docs/Dockerfile makes
_TRIES: Final = 6
# A person must correct it (2, 70, 73, 77, 78), or the next time goes on with it (65, 75).
_FINAL_CODES: Final = [2, 65, 70, 73, 75, 77, 78]
_HEADER: Final = """\
# The volume claim {name} holds {folder} with the job and its inputs; the ledger is there too.
"""
_KEY_HEADER: Final = """\
# The secret {name} holds the key: kubectl create secret generic {name} --from-literal=key=...
"""


def kubernetes(job: "ScheduledJob", image: str) -> str:
    """The CronJob as YAML."""
    name, schedule = unit_name(job), {"schedule": job.cron.text}
    if job.zone is not None:
        schedule["timeZone"] = job.zone
    policy = {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {
                "action": "FailJob",
                "onExitCodes": {"operator": "In", "values": _FINAL_CODES},
            },
        ]
    }
    document = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {
            **schedule,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": _TRIES,
                    "podFailurePolicy": policy,
                    "template": {"spec": _pod(job, name, image)},
                }
            },
        },
    }
    keyed = job.endpoint.api_key_file or job.endpoint.api_key_env
    header = f"{_HEADER}{_KEY_HEADER if keyed else ''}".format(name=name, folder=_folder(job))
    return header + "".join(f"{line}\n" for line in _yaml(document))


def _pod(job: "ScheduledJob", name: str, image: str) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": stop_seconds(job),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, name, image)],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": name}},
            {"name": "tmp", "emptyDir": {}},
            *_key_volume(job, name),
        ],
    }


def _container(job: "ScheduledJob", name: str, image: str) -> dict[str, Any]:
    folder = str(_folder(job))
    words = ["batcher", *run_words(job), "--if-running", "wait"]
    return {
        "name": "batcher",
        "image": image,
        "command": [word.replace("$(", "$$(") for word in words],
        "workingDir": folder,
        "env": [
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            *_key_variable(job, name),
        ],
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": folder},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container
            *_key_mount(job),
        ],
    }


def _folder(job: "ScheduledJob") -> Path:
    """The one that the job and its configuration are in."""
    config = job.config_path
    if config is None or config.is_relative_to(job.path.parent):
        return job.path.parent
    if not job.path.is_relative_to(config.parent):
        raise ConfigurationError(
            f"{config}: is the configuration in force here, and not in the folder of the job,"
            " which is all that the pod gets: copy it beside the job"
        )
    return config.parent


def _key_variable(job: "ScheduledJob", name: str) -> list[dict[str, Any]]:
    variable = job.endpoint.api_key_env
    if job.endpoint.api_key_file or variable is None:
        return []
    source = {"secretKeyRef": {"name": name, "key": "key"}}
    return [{"name": variable, "valueFrom": source}]


def _key_volume(job: "ScheduledJob", name: str) -> list[dict[str, Any]]:
    if not job.endpoint.api_key_file:
        return []
    return [{"name": "key", "secret": {"secretName": name, "defaultMode": 0o440}}]


def _key_mount(job: "ScheduledJob") -> list[dict[str, Any]]:
    file = job.endpoint.api_key_file
    if not file:
        return []
    path = str(Path(file).absolute())
    return [{"name": "key", "mountPath": path, "subPath": "key", "readOnly": True}]


def _yaml(value: Any, indent: int = 0) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Block style for what is nested; scalars and flat lists as JSON, which YAML contains."""
    space = " " * indent
    if isinstance(value, dict):
        for key, inner in value.items():
            if _is_block(inner):
                yield f"{space}{key}:"
                yield from _yaml(inner, indent + 2)
            else:
                yield f"{space}{key}: {json.dumps(inner, ensure_ascii=False)}"
    else:
        for item in value:
            first, *rest = _yaml(item, indent + 2)
            yield f"{space}- {first.strip()}"
            yield from rest


def _is_block(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)
