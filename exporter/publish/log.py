"""The program's log: never in the way of the program, never more than the platform takes.

1. Whoever logs only puts a line into a queue of at most QUEUE_BYTES; a daemon thread writes
   it. When the reader of the log is slow or stuck, further lines are dropped and counted, and
   once it reads again a line says how many. The thread writes to the descriptor itself: a
   thread stuck inside sys.stdout would hold its lock and block the interpreter's exit.
2. At the end what is queued gets DRAIN_SECONDS, then it is given up.
3. Traces have a budget in bytes, a token bucket. Cloud Foundry's own limit is a bucket that
   holds and refills 16 KiB a second, and it drops what exceeds it (and, in newer versions,
   all output of the next second); RATE and BURST stay below both and leave room for
   other lines. A full trace that does not fit becomes its one line, and a line that does not
   fit is dropped and counted; once there is room again, a line says how many. A full trace
   leaves RESERVE for the lines of others.
4. No entry is longer than 61,440 bytes, where Cloud Foundry cuts: a trace cannot be longer
   than BURST, and of any other entry each part is cut at PART_LENGTH characters.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Condition, Lock, Thread
from typing import Literal, TextIO

from exporter.model import Observation
from exporter.publish.lines import render_trace
from exporter.publish.objects import logged_object, to_json
from exporter.publish.text import SUMMARY_NAME_LENGTH, printable, shorten, summary_line, timestamp
from exporter.store import Change

#: The longest backlog of the log, in bytes.
QUEUE_BYTES = 256 * 1024
#: How long the end of the program waits for the backlog to be written.
DRAIN_SECONDS = 0.5
#: So long an entry waits for others, unless half the backlog is full: to wake the thread, and to
#: hand it the interpreter, costs more than to write a line.
GATHERING_SECONDS = 0.25
#: The budget for traces: bytes a second, and what may come at once.
RATE = 12 * 1024
BURST = 12 * 1024
#: What a full trace leaves in the bucket.
RESERVE = 2 * 1024
#: What the time, the level and the punctuation add to an entry, rounded up.
OVERHEAD = 100
#: JSON escapes a character in up to 12 bytes, and an entry has two parts.
PART_LENGTH = 2_000

Format = Literal["text", "json"]
Policy = Literal["all", "changes", "none"]

logger = logging.getLogger(__name__)


class LogStats:
    """How the log fares: its format, and how many entries were lost. Any thread may count."""

    def __init__(self, log_format: Format = "text") -> None:
        self.format = log_format
        self.dropped = 0
        self._lock = Lock()

    def drop(self) -> None:
        """Count one lost entry."""
        with self._lock:
            self.dropped += 1


def configure(format: Format, stream: TextIO) -> LogStats:  # noqa: A002
    """Send all of the program's log to a stream that has a descriptor, e.g. sys.stdout."""
    stats = LogStats(format)
    writer = Writer(stream, stats)
    writer.setFormatter(FORMATTERS[format]())
    logging.basicConfig(level=logging.INFO, handlers=[writer], force=True)
    return stats


# -- entries -----------------------------------------------------------------------------


class TextFormatter(logging.Formatter):
    """`time LEVEL message`, and more lines only for a trace or a traceback.

    A trace is printable already, a traceback is indented, and any other message is made one
    line: text from outside cannot begin an entry.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The entry without the newline at its end."""
        message = record.getMessage()
        if not hasattr(record, "fields"):
            message = printable(shorten(message, PART_LENGTH))
        lines = [f"{timestamp(record.created)} {record.levelname} {message}"]
        lines += (f"  {printable(line)}" for line in _exception(self, record).splitlines())
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, message, and a trace's own keys beside them."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry without the newline at its end."""
        entry: dict[str, object] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "message": shorten(record.getMessage(), PART_LENGTH),
            **getattr(record, "fields", {}),
        }
        if exception := _exception(self, record):
            entry["exception"] = exception
        return to_json(entry)


FORMATTERS: Mapping[Format, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The end of the traceback, where the cause stands; "" without one."""
    if not record.exc_info:
        return ""
    return formatter.formatException(record.exc_info)[-PART_LENGTH:]


# -- the writer --------------------------------------------------------------------------


class Writer(logging.Handler):
    """Queues entries and writes them from a thread of its own; see 1 and 2 above."""

    def __init__(self, stream: TextIO, stats: LogStats) -> None:
        super().__init__()
        self._stream = stream  # held, so that its descriptor stays open
        self._descriptor = stream.fileno()
        self._stats = stats
        #: The entry that is being written stays in front until it is out.
        self._entries: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._closing = False
        self._changed = Condition()
        Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it when the queue is full. Never blocks."""
        entry = self._encode(record)
        with self._changed:
            if self._lost:
                # In their place: what is queued came before them.
                gap = f"{self._lost} log entries are missing here: the log's reader was too slow"
                entry = self._encode(_own_record(gap)) + entry
            if self._size + len(entry) > QUEUE_BYTES:
                self._lost += 1
                self._stats.drop()
                return
            self._lost = 0
            self._entries.append(entry)
            self._size += len(entry)
            # Else the thread is awake, or waits for more.
            if len(self._entries) == 1 or self._is_pressing():
                self._changed.notify_all()

    def close(self) -> None:
        """Give the backlog a last chance and end the thread, unless it is stuck."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._entries, DRAIN_SECONDS)
        super().close()

    def _encode(self, record: logging.LogRecord) -> bytes:
        """The entry with its newline. A faulty call of the logger is no reason to fail."""
        try:
            return f"{self.format(record)}\n".encode()
        except Exception as error:  # noqa: BLE001
            fault = f"no readable log entry at {record.pathname}:{record.lineno}: {error!r}"
            return f"{self.format(_own_record(fault))}\n".encode()

    def _is_pressing(self) -> bool:
        return self._closing or self._size > QUEUE_BYTES // 2

    def _run(self) -> None:
        while self._gathered():
            while self._entries:
                entry = self._entries[0]
                self._write(entry)
                with self._changed:
                    self._entries.popleft()
                    self._size -= len(entry)
                    self._changed.notify_all()

    def _gathered(self) -> bool:
        """Wait for entries, and a moment for more; False at the end, when none is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closing)
            self._changed.wait_for(self._is_pressing, GATHERING_SECONDS)
            return bool(self._entries)

    def _write(self, entry: bytes) -> None:
        """Write all of it, however long that takes; counted when the reader is gone."""
        rest = memoryview(entry)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    # The descriptor is shared with whoever started us, who may have made it
                    # non-blocking.
                    _wait_until_writable(self._descriptor)
        except OSError:
            self._stats.drop()


def _own_record(message: str) -> logging.LogRecord:
    return logger.makeRecord(logger.name, logging.WARNING, __file__, 0, message, (), None)


def _wait_until_writable(descriptor: int) -> None:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    poller.poll()


# -- traces ------------------------------------------------------------------------------

#: A log entry: its message, and the keys that it adds to an entry in JSON.
Entry = tuple[str, Mapping[str, object]]


class Bucket:
    """A token bucket: `rate` bytes a second, `burst` at once; full at the start."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()

    def take(self, size: int, keep: int = 0) -> bool:
        """Take `size` bytes if `keep` remain after it; else take nothing."""
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < size + keep:
            return False
        self._level -= size
        return True


class TraceLog:
    """Writes an observation as a full trace, as a line or not at all; see 3 above.

    `policy` "all": every trace in full; "changes": in full when something changed, else a
    line; "none": neither. What has changed stands in a line of its own behind it.
    """

    def __init__(
        self, policy: Policy, stats: LogStats, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._policy = policy
        self._stats = stats
        self._bucket = Bucket(RATE, BURST, clock)
        self._lost = 0

    def write(self, observation: Observation, change: Change, news: Sequence[str] = ()) -> None:
        """Log the observation, and a line for each piece of news, as policy and budget allow."""
        if self._policy == "none":
            return
        self._announce()
        self._write_trace(observation, change)
        for line in news:
            if not self._write(_news(observation, line)):
                self._lose()

    def _write_trace(self, observation: Observation, change: Change) -> None:
        wants_all = self._policy == "all" or bool(change)
        if wants_all and self._write(FULL[self._stats.format](observation), keep=RESERVE):
            return
        if not self._write(_line(observation)):
            self._lose()

    def _lose(self) -> None:
        self._lost += 1
        self._stats.drop()

    def _announce(self) -> None:
        """Say how many lines were dropped, where that takes nothing from other lines."""
        message = f"{self._lost} trace lines are missing here: the log's budget was spent"
        if self._lost and self._write((message, {}), keep=RESERVE):
            self._lost = 0

    def _write(self, entry: Entry, keep: int = 0) -> bool:
        message, fields = entry
        is_text = self._stats.format == "text"
        body = message if is_text else to_json({"message": message, **fields})
        if not self._bucket.take(len(body.encode()) + OVERHEAD, keep):
            return False
        logger.info("%s", message, extra={"fields": fields})
        return True


def _full_text(observation: Observation) -> Entry:
    return render_trace(observation), {}


def _full_json(observation: Observation) -> Entry:
    return summary_line(observation), logged_object(observation)


def _line(observation: Observation) -> Entry:
    return summary_line(observation), {
        "target": observation.target.name,
        "state": observation.verdict.state.value,
    }


def _news(observation: Observation, line: str) -> Entry:
    name = shorten(printable(observation.target.name), SUMMARY_NAME_LENGTH)
    news = shorten(printable(line), PART_LENGTH)
    return f"{name}: {news}", {"target": observation.target.name, "news": news}


FULL: Mapping[Format, Callable[[Observation], Entry]] = {"text": _full_text, "json": _full_json}
