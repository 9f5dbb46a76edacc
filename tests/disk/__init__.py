"""A slow disk for processes that are started meanwhile: what they write below a directory waits, as it would there.

No rights are needed: a library of a few lines of C is loaded before the C library (Linux). Kafka's channels and
Python's files write and sync by the same calls.
"""

import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SlowDisk", "Waits"]

_SOURCE = Path(__file__).with_name("slow.c")
_CONTROL = struct.Struct("=7q")  # as struct disk in the source
_SETTINGS = struct.Struct("=3q")


@dataclass(frozen=True, slots=True)
class Waits:
    """What the disk has slowed down so far.

    Attributes:
        writes: writes.
        syncs: fsync and fdatasync.
        waited_s: time that they took longer, all together, s.
    """

    writes: int
    syncs: int
    waited_s: float


class SlowDisk:
    """The disk that holds a directory; quick until `slow` is called.

    Args:
        folder: the directory.
        tools: directory for the library and its control file, not below the other.
    """

    def __init__(self, folder: Path, tools: Path) -> None:
        assert not tools.resolve().is_relative_to(folder.resolve())
        library, control = tools / "slow_disk.so", tools / "slow_disk.control"
        command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        control.write_bytes(bytes(_CONTROL.size))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _CONTROL.size)
        self.environment = {
            "LD_PRELOAD": str(library),
            "SLOW_DISK_DIR": str(folder),
            "SLOW_DISK_CONTROL": str(control),
        }

    def slow(self, access_s: float, sync_s: float, bytes_per_s: int = 0) -> None:
        """Make it slow from now on.

        Args:
            access_s: time of each write, s.
            sync_s: time of each sync, s.
            bytes_per_s: how much it writes in a second; 0 = no bound.
        """
        self._control[: _SETTINGS.size] = _SETTINGS.pack(round(access_s * 1e6), bytes_per_s, round(sync_s * 1e6))

    def quick(self) -> None:
        """Make it as quick as it is."""
        self.slow(0.0, 0.0)

    @property
    def waits(self) -> Waits:
        """What it has slowed down so far."""
        *_, writes, syncs, waited_us = _CONTROL.unpack(self._control[:])
        return Waits(writes, syncs, waited_us / 1e6)

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Have every process that is started meanwhile write to it."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
