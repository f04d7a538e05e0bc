"""Names of processes that tell, on the same machine, whether the process still lives."""

import os
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_STARTED: Final = 19  # of the fields of /proc/PID/stat that follow the name: the start time
_ENDED: Final = frozenset("ZXx")
_OF_POD: Final = " of pod "
_LONGEST_POD: Final = 64


def this_process() -> str:
    """A name that no other process ever has; empty where the system tells too little."""
    machine, started = _machine(), _started(os.getpid())
    return f"{machine}/{os.getpid()}/{started}" if machine and started else ""


def in_pod(process: str, pod: str) -> str:
    """The name of a process that is in a container of `pod`; "": of none that is known."""
    return f"{process}{_OF_POD}{pod[:_LONGEST_POD]}" if process and pod else process


def is_dead(process: str) -> bool:
    """Whether the process of that name has ended for sure."""
    return is_living(process) is False


def is_living(process: str) -> bool | None:
    """Whether the process of that name lives; `None` when nobody here can tell.

    Only a process of this machine, this boot and this container's numbers can be judged.
    """
    machine, _, rest = process.partition(_OF_POD)[0].rpartition("/")
    machine, _, pid = machine.rpartition("/")
    if not pid.isdecimal() or machine != _machine():
        return None
    return _started(int(pid)) == rest


def is_of_pod(process: str, pod: str) -> bool:
    """Whether the process of that name was in a container of `pod`."""
    return bool(pod) and process.partition(_OF_POD)[2] == pod[:_LONGEST_POD]


def _machine() -> str:
    """This boot of this machine, and the table of process numbers that we see."""
    try:
        numbers = Path("/proc/self/ns/pid").readlink()
        return f"{_BOOT_ID.read_text().strip()}/{numbers}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process started, in ticks since the boot; empty when it does not live."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name may hold spaces and brackets
    return "" if fields[0] in _ENDED else fields[_STARTED]
