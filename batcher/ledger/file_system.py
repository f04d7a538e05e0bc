"""Which kind of file system a path lies on; locks of network file systems do not hold."""

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_REFUSED = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse"})
# The root of a rootless container: FUSE, and local.
_LOCAL = frozenset({"fuse.fuse-overlayfs"})


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The kind of the network file system that `path` is on, or `None`: local, or not known.

    `mounts` is the text of /proc/self/mountinfo, read when it is not given; where there is none
    (macOS), nothing is known.
    """
    if mounts is None:
        mounts = _MOUNTS.read_text(encoding="utf-8") if _MOUNTS.exists() else ""
    kind = _kind_at(path.resolve(), mounts)
    refused = kind.split(".")[0] in _REFUSED and kind not in _LOCAL
    return kind if refused else None


def _kind_at(path: Path, mounts: str) -> str:
    """The kind of the deepest mount above `path`; on one point, the later lies on top."""
    depth, kind = -1, ""
    for line in mounts.splitlines():
        mount, found = _parse(line)
        if path.is_relative_to(mount) and len(mount.parts) >= depth:
            depth, kind = len(mount.parts), found
    return kind


def _parse(line: str) -> tuple[Path, str]:
    # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    before, after = line.split(" - ", 1)
    mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4])
    return Path(mount), after.split(" ", 1)[0]
