"""Checkpoints: a fold's state at a position of the journal, so that a restart need not read it all.

State is a cache over the journal, and a checkpoint a cache of that: a file per journal partition in the run
directory, used only if every area's last block still stands in the journal under the hash that the file names, and
if it was written by the very same code. What is missing, damaged or of another version is said aloud, and the journal
is read from its beginning. The file is written by a fork of the process, so the market does not wait for it.
"""

import gc
import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from streams.area import Area
from streams.journal_reader import read_blocks_at
from streams.kafka import Connection
from streams.packing import PACKAGES, PackingError, pack, unpack
from streams.process import no_collection

__all__ = ["EVERY_ENTRIES", "AreaImage", "Checkpoints", "Image", "images_of"]

log = logging.getLogger(__name__)

FORMAT = 2
EVERY_ENTRIES = 50_000
_AT_MOST_SHARE = 20  # of the time at most one part in this is spent on writing
_ROOT = Path(__file__).parents[1]
_NICE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaImage:
    """One area at a position of its chain.

    Attributes:
        area_id: market area.
        number: number of its last block.
        hash: hash of that block.
        offset: where that block stands in the partition.
        state: what is kept of it, as `streams.packing` can pack it.
    """

    area_id: str
    number: int
    hash: bytes
    offset: int
    state: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """All areas of a journal partition.

    Attributes:
        partition: journal partition.
        next_offset: first offset that is not in it.
        areas: its areas.
    """

    partition: int
    next_offset: int
    areas: tuple[AreaImage, ...]


def images_of(areas: Iterable[Area]) -> tuple[AreaImage, ...]:
    """Return the images of a view's areas."""
    return tuple(
        AreaImage(area_id=a.area_id, number=a.last[0], hash=a.last[1], offset=a.offset, state=a.kept())
        for a in areas
        if a.last is not None
    )


class Checkpoints:
    """The checkpoints of one service.

    Args:
        folder: where they lie; None keeps none.
        service: whose they are.
        packages: further top-level packages whose classes its state may hold.
        every_entries: write after that many journal entries.
        slot: number of this worker among its siblings.
    """

    def __init__(
        self,
        folder: Path | None,
        service: str,
        packages: Iterable[str] = (),
        every_entries: int = EVERY_ENTRIES,
        slot: int = 0,
    ) -> None:
        self._folder, self._service, self._slot = folder, service, slot
        self._packages = PACKAGES | frozenset(packages)
        self._code = code_version()  # now: the sources may change while the process runs
        self._every = every_entries
        self._since: dict[int, int] = {}
        self._writer: tuple[int, float, list[int]] | None = None
        self._not_before = 0.0
        self._ahead: dict[int, Future[Image]] = {}

    def read_ahead(self) -> None:
        """Begin to read what this worker wrote before, while its start waits for the broker and for its group.

        Whether the journal confirms it is found out later, by `read`.
        """
        if self._folder is None:
            return
        own = [p for p in self._folder.glob(f"{self._service}-*.checkpoint") if self._is_mine(p)]
        reader = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        for path in own:
            self._ahead[int(path.stem.rpartition("-")[2])] = reader.submit(self._load, path)
        reader.shutdown(wait=False)

    def settled(self) -> None:
        """Say that the partitions of this worker are read: what else was read ahead is somebody else's."""
        self._ahead = {}

    def folded(self, partition: int, entries: int) -> None:
        """Count what was taken in since the last checkpoint of a partition."""
        self._since[partition] = self._since.get(partition, 0) + entries

    def due(self) -> list[int]:
        """Return the partitions whose checkpoint is due; call it now and then."""
        if self._folder is None or self._writing() or time.monotonic() < self._not_before:
            return []
        return [p for p, entries in self._since.items() if entries >= self._every]

    def write(self, image: Callable[[int], Image], partitions: Sequence[int]) -> None:
        """Write partitions beside the work of this process.

        Args:
            image: makes the image of a partition; called in the fork, where nothing changes any more.
            partitions: which.
        """
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        for partition in partitions:
            self._since[partition] = 0
        began = time.monotonic()
        if not hasattr(os, "fork"):
            with suppress(OSError, PackingError):
                self._write_all(image, partitions)
            self._not_before = time.monotonic() + _AT_MOST_SHARE * (time.monotonic() - began)
            return
        with warnings.catch_warnings():
            # The child of threads may hold no lock of theirs: it packs, writes a file of its own and is gone.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child:
            self._writer = (child, began, list(partitions))
            return
        code = 1
        try:
            gc.disable()  # a collection would touch, and so copy, every page of the parent
            os.nice(_NICE)
            os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 1 << 16 else 1 << 16)
            self._write_all(image, partitions)
            code = 0
        except BaseException as error:
            os.write(2, f"checkpoint of {self._service} not written: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)

    def read(self, connection: Connection, partition: int, end: int) -> Image | None:
        """Return a partition's checkpoint, if there is one that the journal confirms; else say why not.

        Args:
            connection: the broker.
            partition: journal partition.
            end: end of the partition as it stands.

        Raises:
            EnvironmentProblem: the broker does not answer.
        """
        if self._folder is None:
            return None
        began = time.monotonic()
        path = self._path(partition)
        try:
            ahead = self._ahead.pop(partition, None)
            image = self._load(path) if ahead is None else ahead.result()
            self._confirm(image, connection, end)
        except FileNotFoundError:
            log.info("partition %d has no checkpoint; reading the journal from its beginning", partition)
            return None
        except (OSError, ValueError, PackingError) as error:
            log.warning("%s is not used (%s); reading the journal from its beginning", path, error)
            return None
        log.info(
            "partition %d: checkpoint up to offset %d confirmed by the journal and read in %.1f s",
            partition,
            image.next_offset,
            time.monotonic() - began,
        )
        return image

    def close(self) -> None:
        """Let a writer that is at work finish."""
        if self._writer is not None:
            os.waitpid(self._writer[0], 0)
            self._writer = None

    def _path(self, partition: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._service}-{partition}.checkpoint"

    def _writing(self) -> bool:
        if self._writer is None:
            return False
        child, began, partitions = self._writer
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            return True
        self._writer = None
        if status:  # what could not be packed now (a computation under way, say) may be later
            for partition in partitions:
                self.folded(partition, self._every)
        self._not_before = time.monotonic() + _AT_MOST_SHARE * (time.monotonic() - began)
        return False

    def _write_all(self, image: Callable[[int], Image], partitions: Sequence[int]) -> None:
        for partition in partitions:
            found = image(partition)
            fresh = self._path(partition).with_suffix(f".{os.getpid()}")
            digest = hashlib.sha256()
            with fresh.open("wb") as file:
                fresh.chmod(0o600)  # it holds what the journal holds
                for line in self._lines(found):
                    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
                    digest.update(data)
                    file.write(data)
                file.write(digest.hexdigest().encode())
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path(partition))
            for left in fresh.parent.glob(f"{self._service}-{partition}.[0-9]*"):
                left.unlink(missing_ok=True)  # of a writer that was killed; or its file is older than ours

    def _lines(self, image: Image) -> Iterable[Any]:
        yield {
            "format": FORMAT,
            "service": self._service,
            "slot": self._slot,
            "code": self._code,
            "partition": image.partition,
            "next_offset": image.next_offset,
            "areas": len(image.areas),
        }
        for area in image.areas:
            place = {"area": area.area_id, "number": area.number, "hash": area.hash.hex(), "offset": area.offset}
            yield place | pack(area.state, self._packages)

    def _is_mine(self, path: Path) -> bool:
        with suppress(OSError, ValueError, LookupError, TypeError), path.open("rb") as file:
            return bool(json.loads(file.readline(10_000))["slot"] == self._slot)
        return False

    def _load(self, path: Path) -> Image:
        """Read a file.

        Raises:
            OSError: it is missing, or cannot be read.
            PackingError: a state in it cannot be read.
            ValueError: it is damaged, or of another version.
        """
        with no_collection():
            try:
                return self._loaded(path)
            except (OSError, ValueError, PackingError):
                raise
            except Exception as error:  # its SHA-256 fits, but nobody here wrote it
                raise ValueError(f"it is no checkpoint: {type(error).__name__}: {error}") from error

    def _loaded(self, path: Path) -> Image:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            lines = []
            size = path.stat().st_size - digest.digest_size * 2
            while file.tell() < size:
                lines.append(file.readline())
                digest.update(lines[-1])
            if not lines or file.read() != digest.hexdigest().encode():
                raise ValueError("it is damaged: its SHA-256 is another")
        head = json.loads(lines[0])
        if head["format"] != FORMAT or head["service"] != self._service:
            raise ValueError("it has another format")
        if head["code"] != self._code:
            raise ValueError("it was written by another version of the code")
        areas = []
        for line in lines[1:]:
            row = json.loads(line)
            areas.append(
                AreaImage(
                    area_id=str(row["area"]),
                    number=_whole(row["number"]),
                    hash=bytes.fromhex(row["hash"]),
                    offset=_whole(row["offset"]),
                    state=unpack(row, self._packages),
                )
            )
        return Image(partition=_whole(head["partition"]), next_offset=_whole(head["next_offset"]), areas=tuple(areas))

    def _confirm(self, image: Image, connection: Connection, end: int) -> None:
        if image.next_offset > end:
            raise ValueError(f"it goes up to offset {image.next_offset}, the journal only to {end}")
        wanted = {area.offset: area for area in image.areas}
        for offset, block in read_blocks_at(connection, image.partition, wanted):
            area = wanted[offset]
            if block is None or (block.area_id, block.number, block.hash) != (area.area_id, area.number, area.hash):
                raise ValueError(f"the journal has another block at offset {offset} than {area.number} of it")


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is no number of a block, a partition or an offset")
    return value


@cache
def code_version() -> str:
    """Return SHA-256 over the sources that a state follows from: other code may fold the same journal otherwise."""
    digest = hashlib.sha256()
    for package in sorted(PACKAGES):
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
