"""The one common shell of all stages: read committed blocks, fold, decide, send what is due.

A `Stage` (see `streams.area`) says what is decided; this module gives it a Faust app, rebuilds its state from the
journal whenever partitions are assigned, runs its computations in other processes and sends its facts to its inbox.
No state of its own matters: what was decided and did not arrive is decided again from the same blocks, under the
same ids.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from flexbus import codec
from flexbus.errors import EnvironmentProblem, FlexbusError
from flexbus.journal import Block
from flexbus.topics import JOURNAL
from flexbus.views.fact import Emission, Job
from streams.area import Area, Due, Stage
from streams.checkpoint import Image, images_of
from streams.context import Context
from streams.digest import state_digest
from streams.faust_app import assigned, group_error, new_app
from streams.jobs import JobError, Jobs
from streams.journal_reader import Ends, end_offset, read_blocks
from streams.outbox import Outbox
from streams.process import end_at_once, no_collection
from streams.table import Summary, new_table

__all__ = ["StageShell", "run_stage"]

log = logging.getLogger(__name__)
_IDLE_S = 0.5
_STOP_WITHIN_S = 8.0
_LAG_EVERY_S = 5.0
_STUCK_S = 60.0
_UNTAKEN_S = 30.0
_PAGE_WITHIN_S = 30.0
_ROW_EVERY_S = 1.0
_ROW_SHARE = 50  # a row may take this part of the time, so that a large market is not counted over at every block


class StageShell:
    """One worker of a stage.

    Args:
        stage: what it does.
        context: what it is given.
    """

    def __init__(self, stage: Stage, context: Context) -> None:
        self._stage, self._context = stage, context
        self._monitor = context.monitor
        self._measure = stage.measure(context.monitor) if stage.measure else None
        self._areas: dict[str, Area] = {}
        self._rows: dict[str, tuple[float, dict[str, int]]] = {}  # by area: when the next may be made, and the last
        self._changed: set[str] = set()  # areas whose rows are to be written
        self._next: dict[int, int] = {}  # next offset to read, by partition that is ours
        self._behind = 0  # records that were there when last asked and not read
        self._agreed_at = time.monotonic()  # when what is ours was last what the group gave us
        self._checkpoints = context.checkpoints(packages=(stage.fold.__module__.partition(".")[0],))
        self._jobs = Jobs(modules=stage.imports)
        self._running: set[asyncio.Task[None]] = set()
        self._fatal: BaseException | None = None
        self._over = asyncio.Event()
        self._rebuild: asyncio.Future[None] | None = None
        self._abandoned = threading.Event()
        self._steady = asyncio.Event()  # not set while a thread rebuilds areas
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(context.connection, stage.service, self._fail)
        self._ends = Ends(context.connection)
        self._app = new_app(stage.service, context.connection, f"flexbus-{stage.service}-{context.slot}")
        self._table = new_table(self._app, stage.service, context.connection)
        self._app.on_rebalance_complete.connect(self._on_assigned, weak=False)
        journal = self._app.topic(
            JOURNAL, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        self._app.agent(journal, name=f"{stage.service}.blocks")(self._blocks)
        context.monitor.page("view", self._page)
        context.monitor.page("digest", self._digest_page)

    async def run(self) -> None:
        """Work until told to stop.

        Raises:
            BaseException: whatever broke; Faust's threads and tasks go on, so end the process.
        """
        if self._stage.imports:
            self._jobs.warm()
        self._checkpoints.read_ahead()
        starting = self._loop.create_task(self._app.start())
        measured, measuring = 0.0, threading.Thread()
        while not self._context.stop.is_set() and self._fatal is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _IDLE_S)
            if starting.done():
                starting.result()
            if (lost := group_error(self._app)) is not None:
                self._fail(FlexbusError(f"the consumer group is lost: {lost}"))
            if self._app.crashed:
                self._fail(self._app.crash_reason or FlexbusError("Faust ended without saying why"))
            self._outbox.poll()
            self._write_checkpoints()
            self._write_rows()
            if self._next and not measuring.is_alive() and time.monotonic() - measured > _LAG_EVERY_S:
                self._check_progress()
                measured = time.monotonic()
                # Nobody waits for it, not even the end of the process: it may get no answer for half a minute after a
                # restart of Kafka. That a broker refuses us the outbox hears at once.
                measuring = threading.Thread(target=self._measure_lag, name="lag", daemon=True)
                measuring.start()
            self._check_assignment()
        self._abandoned.set()
        self._jobs.close()
        self._checkpoints.close()
        if self._fatal is not None:
            raise self._fatal
        self._write_rows()
        self._outbox.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._app.stop(), _STOP_WITHIN_S)

    def _fail(self, error: BaseException) -> None:
        if self._fatal is None:
            self._fatal = error
        self._loop.call_soon_threadsafe(self._over.set)

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        """Bring the areas of the assigned partitions up to the journal's end, before events flow."""
        self._steady.clear()
        try:
            await self._abandon_rebuild()
            mine = {tp.partition for tp in self._app.consumer.assignment() if tp.topic == JOURNAL}
            for partition in set(self._next) - mine:
                del self._next[partition]
            for area in [a for a in self._areas.values() if a.partition not in mine]:
                self._forget(area)
            began = time.monotonic()
            self._rebuild = self._loop.run_in_executor(None, self._catch_up, sorted(mine), self._abandoned)
            await asyncio.shield(self._rebuild)
            if self._abandoned.is_set():
                return  # told to end: what was half read decides nothing
            log.info("assigned %s, rebuilt in %.1f s", sorted(mine), time.monotonic() - began)
            for area in self._areas.values():
                self._send(area)
            self._changed.update(self._areas)  # what others have written of them may be older
            if mine:  # a group that is still being formed may assign nothing at first
                self._checkpoints.settled()
            self._monitor.ready(sorted(mine))
            self._steady.set()
        except asyncio.CancelledError:
            raise  # the group is being rebalanced again; what was rebuilt is kept, and the next call goes on
        except BaseException as error:
            self._fail(error)
            raise

    async def _abandon_rebuild(self) -> None:
        """Wait until the thread of an earlier assignment has let go of the areas."""
        if self._rebuild is not None:
            self._abandoned.set()
            await asyncio.wait({self._rebuild})
        self._abandoned = threading.Event()

    def _catch_up(self, partitions: list[int], abandoned: threading.Event) -> None:
        """Read each partition from where we stand to its end (in a thread; blocks under way wait meanwhile)."""
        with no_collection():
            self._read_all(partitions, abandoned)

    def _read_all(self, partitions: list[int], abandoned: threading.Event) -> None:
        for partition in partitions:
            end = end_offset(self._context.connection, partition)
            start = self._next[partition] if partition in self._next else self._restore(partition, end)
            for offset, block in read_blocks(self._context.connection, partition, start, end):
                self._fold(block, partition, offset)
                start = offset + 1
                if abandoned.is_set():
                    self._next[partition] = start
                    return
            self._next[partition] = max(start, end)

    def _restore(self, partition: int, end: int) -> int:
        """Begin with the checkpoint of a partition, if there is a good one; return the offset to read on from."""
        image = self._checkpoints.read(self._context.connection, partition, end)
        if image is None:
            return 0
        for found in image.areas:
            area = self._areas[found.area_id] = Area(found.area_id, self._stage, partition)
            area.restore(found.state, (found.number, found.hash), found.offset)
        return image.next_offset

    def _write_checkpoints(self) -> None:
        if self._steady.is_set() and (due := [p for p in self._checkpoints.due() if p in self._next]):
            self._checkpoints.write(self._image, due)

    def _image(self, partition: int) -> Image:
        areas = [a for a in self._areas.values() if a.partition == partition]
        return Image(partition=partition, next_offset=self._next[partition], areas=images_of(areas))

    async def _blocks(self, stream: Any) -> None:
        try:
            async for event in stream.events():
                await self._steady.wait()
                message = event.message
                if message.partition not in self._next:
                    continue  # was under way when the partition went to somebody else
                area = self._fold(codec.decode_as(message.value, Block), message.partition, message.offset)
                self._next[message.partition] = max(self._next[message.partition], message.offset + 1)
                if area is not None:
                    received = [e.received_at_ms for e in area[1].entries]
                    self._send(area[0])
                    if received:
                        self._monitor.latency.labels(self._stage.service).observe(
                            max(0.0, time.time() - min(received) / 1000)
                        )
                    self._changed.add(area[0].area_id)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._fail(error)
            raise

    def _fold(self, block: Block, partition: int, offset: int) -> tuple[Area, Block] | None:
        """Take in a block; None if it was seen before.

        Raises:
            ChainError: the chain is broken here.
        """
        area = self._areas.get(block.area_id)
        if area is None:
            area = Area(block.area_id, self._stage, partition)
        facts = area.take(block)
        self._areas[block.area_id] = area
        if facts is None:
            return None
        area.offset = offset
        self._checkpoints.folded(partition, len(block.entries))
        name = self._stage.service
        for kind, count in Counter([entry.event_type for entry in block.entries]).items():
            self._monitor.events.labels(name, kind, block.area_id).inc(count)
        self._monitor.blocks.labels(name).inc()
        self._monitor.progress()
        if self._measure is not None:
            for fact in facts:
                self._measure(fact)
        return area, block

    def _send(self, area: Area) -> None:
        facts: list[tuple[Emission, int]] = []
        for due in area.unsent():
            due.sent = True
            if isinstance(due.what, Job):
                task = self._loop.create_task(self._work(due.what, due))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            else:
                facts.append((due.what, due.cause_ms))
        self._emit(facts)
        self._monitor.pending.labels(self._stage.service, area.area_id).set(len(area.pending))

    async def _work(self, job: Job, due: Due) -> None:
        try:
            results, seconds = await self._jobs.run(job)
            if self._stage.service == "clearing":
                self._monitor.clearing.observe(seconds)
            self._emit([(emission, due.cause_ms) for emission in results])
        except JobError as error:
            # The next start tries again; until then the area goes on without this result, and says so.
            log.error("%s", error)
            self._monitor.job_failures.labels(self._stage.service, job.run.__qualname__).inc()
            self._monitor.fault(str(error))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)

    def _emit(self, facts: list[tuple[Emission, int]]) -> None:
        kinds = [type(emission.event).__name__ for emission, _ in facts]
        for kind in kinds:
            if kind not in self._stage.outputs:
                raise FlexbusError(f"the stage {self._stage.service} may not send {kind}: name it in its outputs")
        self._outbox.send(facts)
        for kind in kinds:
            self._monitor.emissions.labels(self._stage.service, kind).inc()

    def _forget(self, area: Area) -> None:
        del self._areas[area.area_id]
        self._rows.pop(area.area_id, None)

    def _measure_lag(self) -> None:
        read = dict(self._next)
        try:
            ends = self._ends.of(read)
        except EnvironmentProblem:
            self._behind = 0
            return  # the broker is away; the clients come back by themselves
        except BaseException as error:
            self._fail(error)
            raise
        # The marker that ends the last transaction is at the end and is never delivered.
        lags = {partition: max(0, end - read[partition] - 1) for partition, end in ends.items()}
        for partition, lag in lags.items():
            self._monitor.lag.labels(self._stage.service, partition).set(lag)
        self._behind = sum(lags.values())

    def _check_progress(self) -> None:
        """End a process to which blocks do not come although there are some: a fresh one joins the group anew."""
        if not self._behind:
            self._monitor.progress()
        elif self._monitor.idle_s() > _STUCK_S:
            self._fail(FlexbusError(f"{self._behind} records wait and nothing came for {_STUCK_S:.0f} s"))

    def _check_assignment(self) -> None:
        """End a process that was not told of partitions that the group gave it: nobody would read them."""
        rebuilding = self._rebuild is not None and not self._rebuild.done()
        ours, theirs = set(self._next), assigned(self._app, JOURNAL)
        if rebuilding or theirs == ours:
            self._agreed_at = time.monotonic()
        elif time.monotonic() - self._agreed_at > _UNTAKEN_S:
            lacks, has = sorted(theirs - ours), sorted(ours - theirs)
            text = f"partitions {lacks} were given to this worker and {has} taken, and it was not told"
            self._fail(FlexbusError(text))

    def _write_rows(self) -> None:
        """Write the rows of the areas that have changed: now and then, as writing one costs more than most blocks."""
        if not self._steady.is_set():
            return
        for area in [self._areas[area_id] for area_id in sorted(self._changed) if area_id in self._areas]:
            key, row = area.area_id.encode(), self._summary(area).to_bytes()
            self._table.data[key] = row
            self._table.send_changelog(area.partition, key, row)
        self._changed.clear()

    def _summary(self, area: Area) -> Summary:
        """Return the row of an area, its market view made anew if that is not too dear."""
        again, row = self._rows.get(area.area_id, (0.0, {}))
        if time.monotonic() >= again:
            row = self._market_row(area)
        return Summary.of(area, row)

    def _market_row(self, area: Area) -> dict[str, int]:
        if self._stage.row is None:
            return {}
        began = time.monotonic()
        row = self._stage.row(area.state)
        took = time.monotonic() - began
        self._rows[area.area_id] = began + max(_ROW_EVERY_S, _ROW_SHARE * took), row
        return row

    def _page(self, area_id: str) -> Any:
        if not area_id:
            return {"service": self._stage.service, "areas": sorted(self._areas)}

        async def row() -> Any:  # in the loop, where the state does not change meanwhile
            area = self._areas.get(area_id)
            if area is None:  # a table also keeps what it had before a rebalance
                return None
            if self._steady.is_set():
                return Summary.of(area, self._market_row(area)).to_json()
            stored = self._table.get(area_id.encode())
            return Summary.of_bytes(stored).to_json() if stored else None

        return asyncio.run_coroutine_threadsafe(row(), self._loop).result(_PAGE_WITHIN_S)

    def _digest_page(self, area_id: str) -> Any:
        """Return a digest of an area's state, for comparison with a fold of the journal from its beginning."""

        async def digest() -> Any:  # in the loop, where the state does not change meanwhile
            area = self._areas.get(area_id)
            if area is None or area.last is None or not self._steady.is_set():
                return None
            return {"area": area_id, "block": area.last[0], "digest": state_digest(area.state)}

        return asyncio.run_coroutine_threadsafe(digest(), self._loop).result(_PAGE_WITHIN_S)


def run_stage(stage: Stage, context: Context) -> None:
    """Run one worker of a stage until told to stop; a broken journal or a lost broker ends the process.

    Raises:
        EnvironmentProblem: Kafka cannot be used to begin with.
    """

    async def work() -> None:
        shell = StageShell(stage, context)
        try:
            await shell.run()
        except BaseException as error:
            # Faust's threads and tasks would keep the process; what they hold is in the journal anyway.
            end_at_once(error)

    asyncio.run(work())
