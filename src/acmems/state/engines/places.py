"""Which file systems SQLite is safe on."""

from __future__ import annotations

from pathlib import Path

_NETWORK = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3"}
)


def unsafe_place(path: Path) -> str | None:
    """Return why a state must not lie somewhere, and what to do; None if it may."""
    kind = file_system(path)
    if kind not in _NETWORK:
        return None
    return (
        f"{path} lies on a network file system ({kind}), where SQLite is not safe: set 'url' in [state] to a "
        f"file on a local disk"
    )


def file_system(path: Path) -> str:
    """Return the type of the file system that a file lies on; empty where the system does not say."""
    resolved = path.resolve()
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    found, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4].replace("\\040", " ")
        if resolved.is_relative_to(point) and len(point) >= found:  # the later of two covers the earlier
            found, kind = len(point), right.split(" ")[0]
    return kind
