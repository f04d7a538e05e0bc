"""The CronJob of Kubernetes that starts a job."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batcher.cli.care.units import run_words, stop_seconds, unit_name
from batcher.errors import ConfigurationError

if TYPE_CHECKING:
    from batcher.wiring import ScheduledJob

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
