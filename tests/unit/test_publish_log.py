"""The log: never in the way, within the platform's limits, and it says what it lost."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from exporter.model import Observation
from exporter.publish import log
from exporter.publish.lines import render_trace
from exporter.publish.log import FORMATTERS, Format, LogStats, Policy, TraceLog, Writer
from exporter.publish.text import summary_line
from exporter.schedule.cadence import Cadence, first_spacing, joining
from exporter.store import Change
from tests.unit import samples

FORMATS: tuple[Format, ...] = ("text", "json")
#: Where Cloud Foundry cuts an entry, and what it takes: a bucket that holds and refills so much.
LONGEST_ENTRY = 61_440
PLATFORM_RATE = 16 * 1024

CHANGED = Change(first=False, state=True, path=False)
UNCHANGED = Change(first=False, state=False, path=False)
#: More than a test waits for anything; whoever reaches it has failed.
PATIENCE = 30
#: The issue's limit for the end of the program, in seconds.
END = 2.0


@pytest.fixture
def logger() -> logging.Logger:
    """A logger that only the test hears."""
    return logging.Logger("test", logging.INFO)  # noqa: LOG001 - none that others can find


@contextmanager
def written_to(descriptor: int, stats: LogStats, logger: logging.Logger) -> Iterator[Writer]:
    """A writer to a descriptor, at the logger."""
    with os.fdopen(os.dup(descriptor), "w") as stream:
        writer = Writer(stream, stats)
        writer.setFormatter(FORMATTERS[stats.format]())
        logger.addHandler(writer)
        yield writer
        writer.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds one page: its ends for reading and writing."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        os.close(end)


def read_until(descriptor: int, part: str) -> str:
    """What can be read up to a line with this in it."""
    text = ""
    while part not in text or not text.endswith("\n"):
        chunk = os.read(descriptor, 65536)
        assert chunk, f"the log ended without {part!r}"
        text += chunk.decode()
    return text


# -- the writer ------------------------------------------------------------------------


def test_a_full_pipe_blocks_nobody(pipe: tuple[int, int], logger: logging.Logger) -> None:
    """With nobody reading, logging goes on; what does not fit is counted."""
    reading, writing = pipe
    stats = LogStats()
    with written_to(writing, stats, logger) as writer:
        for number in range(5_000):
            logger.info("line %d of many that nobody reads %s", number, "x" * 100)
        assert stats.dropped > 0
        assert writer._size <= log.QUEUE_BYTES
        drain = threading.Thread(target=read_until, args=(reading, "the end"))
        drain.start()
        with writer._changed:
            assert writer._changed.wait_for(lambda: not writer._entries, PATIENCE)
        logger.info("the end")
        drain.join()


def test_lost_lines_are_announced_in_their_place(
    pipe: tuple[int, int], logger: logging.Logger
) -> None:
    """Once the reader reads again, the next line is preceded by the number of lost ones."""
    reading, writing = pipe
    stats = LogStats()
    with written_to(writing, stats, logger) as writer:
        number = 0
        while not stats.dropped:
            logger.info("line %d %s", number, "x" * 1000)
            number += 1
        logger.info("too large as well %s", "x" * 1000)
        assert stats.dropped == 2
        first = read_until(reading, f"line {number - 2} ")
        with writer._changed:
            assert writer._changed.wait_for(lambda: not writer._entries, PATIENCE)
        logger.info("next")
        second = read_until(reading, "next").splitlines()
    assert len(first.splitlines()) == number - 1
    assert [line.split(" ", 1)[1] for line in second] == [
        "WARNING 2 log entries are missing here: the log's reader was too slow",
        "INFO next",
    ]


PROGRAM = """
import logging, os, sys
from exporter.publish import log
log.configure(sys.argv[1], sys.stdout)
for number in range(5_000):
    logging.getLogger("x").info("line %d %s", number, "x" * 200)
os.write(2, b"done")
"""


@pytest.mark.parametrize("log_format", FORMATS)
def test_the_program_ends_although_nobody_reads_its_log(log_format: Format) -> None:
    """A stuck reader costs the end of the program no more than the time to drain."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, log_format], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stderr
        assert os.read(program.stderr.fileno(), 4) == b"done"
        began = time.monotonic()
        assert program.wait(PATIENCE) == 0
        assert time.monotonic() - began < END
        assert program.stderr.read() == b""


def test_what_is_queued_is_written_at_the_end() -> None:
    """A reader that reads gets every line, also those just before the end."""
    program = PROGRAM.replace("5_000", "500")
    done = subprocess.run(
        [sys.executable, "-c", program, "text"], capture_output=True, text=True, check=True
    )
    assert [line.split()[3] for line in done.stdout.splitlines()] == [str(n) for n in range(500)]


def test_lines_that_come_together_are_written_together(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int], logger: logging.Logger
) -> None:
    """A line waits for others, until half of what may be queued is there."""
    monkeypatch.setattr(log, "GATHERING_SECONDS", PATIENCE)
    monkeypatch.setattr(log, "QUEUE_BYTES", 2_000)
    reading, writing = pipe
    os.set_blocking(reading, False)
    with written_to(writing, LogStats(), logger) as writer:
        logger.info("alone")
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
        logger.info("enough %s", "x" * 1_000)
        with writer._changed:
            assert writer._changed.wait_for(lambda: not writer._entries, PATIENCE)
        first, second = os.read(reading, 4096).decode().splitlines()
    assert "alone" in first
    assert "enough" in second


def test_a_reader_that_is_gone_is_no_failure(logger: logging.Logger) -> None:
    """Lines to a closed pipe are counted; the program and the writer's thread go on."""
    stats = LogStats()
    reading, writing = os.pipe()
    os.close(reading)
    with written_to(writing, stats, logger) as writer:
        for _ in range(3):
            logger.info("to nobody")
        with writer._changed:
            assert writer._changed.wait_for(lambda: not writer._entries, PATIENCE)
    os.close(writing)
    assert stats.dropped == 3


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(
    pipe: tuple[int, int], logger: logging.Logger
) -> None:
    """Whoever started the program may share its log and its mode: long lines arrive whole."""
    reading, writing = pipe
    os.set_blocking(writing, False)
    stats = LogStats()
    with written_to(writing, stats, logger):
        for number in range(40):
            logger.info("line %d %s", number, "x" * 1500)
        lines = read_until(reading, "line 39").splitlines()
    assert [len(line) for line in lines] == [len(lines[0]) + (n > 9) for n in range(40)]
    assert stats.dropped == 0


def test_a_faulty_call_is_an_entry(pipe: tuple[int, int], logger: logging.Logger) -> None:
    """A logging call with the wrong arguments stops nothing and says where it stands."""
    with written_to(pipe[1], LogStats(), logger):
        logger.info("%d", "no number")
        assert "WARNING no readable log entry at " in read_until(pipe[0], "test_publish_log.py:")


# -- entries ---------------------------------------------------------------------------


class Sink(logging.Handler):
    """Keeps each entry as the writer would write it, newline included."""

    def __init__(self, log_format: Format) -> None:
        super().__init__()
        self.setFormatter(FORMATTERS[log_format]())
        self.entries: list[str] = []
        #: The size of all that was kept.
        self.bytes = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.entries.append(f"{self.format(record)}\n")
        self.bytes += len(self.entries[-1].encode())


def formatted(log_format: Format, message: str, error: Exception | None = None) -> str:
    """One entry of an ordinary message."""
    sink = Sink(log_format)
    exc_info = (type(error), error, None) if error else None
    sink.emit(logging.LogRecord("x", logging.ERROR, __file__, 1, message, (), exc_info))
    return sink.entries[0]


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize(
    "text", [samples.HOSTILE, "\u202e" * 10**5, "\U000e0041" * 10**5, "\n" * 9]
)
def test_no_message_breaks_out_of_its_entry(log_format: Format, text: str) -> None:
    """Hostile text is escaped, one line for the message, and no entry is too long."""
    entry = formatted(log_format, text)
    assert entry[:-1].isprintable()
    assert entry.endswith("\n")
    assert len(entry.encode()) < LONGEST_ENTRY


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("unit", ["\U000e0041", "\n", "\x1b"])
def test_no_exception_makes_an_entry_too_long(log_format: Format, unit: str) -> None:
    """The end of the traceback is kept, the start may go."""
    entry = formatted(log_format, unit * 10**5, ValueError(f"{unit * 10**5} the end"))
    assert len(entry.encode()) < LONGEST_ENTRY
    assert entry.rstrip().removesuffix('"}').endswith(" the end")


def test_a_traceback_cannot_begin_an_entry() -> None:
    """In the text format its lines are indented and printable."""
    first, *others = formatted(
        "text", "failed", ValueError("one\n2026-01-01 INFO forged \x1b[2J")
    ).splitlines()
    assert first.endswith(" ERROR failed")
    assert others
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_an_entry_in_json_is_an_object_in_one_line() -> None:
    """Time, level, message, and the exception if there was one."""
    entry = json.loads(formatted("json", samples.HOSTILE, ValueError("x")))
    assert set(entry) == {"time", "level", "message", "exception"}
    assert (entry["level"], entry["message"]) == ("error", samples.HOSTILE)


# -- traces ----------------------------------------------------------------------------


class Logging:
    """A trace log with its sink, on a clock that the test sets."""

    def __init__(self, policy: Policy, log_format: Format) -> None:
        self.now = 0.0
        self.stats = LogStats(log_format)
        self.sink = Sink(log_format)
        self.traces = TraceLog(policy, self.stats, lambda: self.now)

    @property
    def entries(self) -> list[str]:
        """What was written."""
        return self.sink.entries


@contextmanager
def logging_of(policy: Policy, log_format: Format = "text") -> Iterator[Logging]:
    """A trace log that writes to a sink for the time of a test."""
    made = Logging(policy, log_format)
    level = log.logger.level
    log.logger.addHandler(made.sink)
    log.logger.setLevel(logging.INFO)
    log.logger.propagate = False
    try:
        yield made
    finally:
        log.logger.propagate = True
        log.logger.setLevel(level)
        log.logger.removeHandler(made.sink)


@pytest.mark.parametrize(
    ("policy", "change", "written"),
    [
        ("all", CHANGED, render_trace),
        ("all", UNCHANGED, render_trace),
        ("changes", CHANGED, render_trace),
        ("changes", replace(UNCHANGED, first=True), render_trace),
        ("changes", replace(UNCHANGED, path=True), render_trace),
        ("changes", UNCHANGED, summary_line),
        ("changes", replace(CHANGED, flaps=True), summary_line),
        ("changes", replace(CHANGED, flaps=True, first=True), render_trace),
        ("all", replace(CHANGED, flaps=True), render_trace),
        ("none", CHANGED, None),
        ("none", UNCHANGED, None),
    ],
)
def test_the_policy_decides_what_is_written(
    policy: Policy, change: Change, written: object
) -> None:
    """All traces in full; in full when something changed, else a line; none."""
    with logging_of(policy) as made:
        made.traces.write(samples.filtered(), change)
    texts = [entry.split(" ", 2)[2][:-1] for entry in made.entries]
    assert texts == ([written(samples.filtered())] if callable(written) else [])
    assert made.stats.dropped == 0


def test_a_full_trace_in_json_is_the_apis_object_with_time_and_message() -> None:
    """A log processor gets the whole observation in one line."""
    with logging_of("all", "json") as made:
        made.traces.write(samples.filtered(), UNCHANGED)
    entry = json.loads(made.entries[0])
    assert (entry["target"], entry["verdict"]["blocked_at_hop"]) == ("db", 7)
    assert entry["message"] == summary_line(samples.filtered())
    assert made.entries[0].count("\n") == 1


def test_a_line_in_json_names_target_and_state() -> None:
    """The short entry can be filtered as the long one can."""
    with logging_of("changes", "json") as made:
        made.traces.write(samples.filtered(), UNCHANGED)
    entry = json.loads(made.entries[0])
    assert (entry["target"], entry["state"]) == ("db", "filtered")


@pytest.mark.parametrize("log_format", FORMATS)
def test_news_are_lines_of_their_own_behind_the_trace(log_format: Format) -> None:
    """Each bears the target's name, and is one printable line whatever it holds."""
    with logging_of("changes", log_format) as made:
        made.traces.write(samples.filtered(), CHANGED, ["Open until 12:04", samples.HOSTILE])
    assert "verdict" in made.entries[0]
    first, second = made.entries[1:]
    assert "db: Open until 12:04" in first
    assert second.strip("\n").isprintable()
    if log_format == "json":
        assert json.loads(first)["news"] == "Open until 12:04"
        assert json.loads(first)["target"] == "db"


def test_without_traces_there_are_no_news() -> None:
    """LOG_TRACES=none is about all that targets do."""
    with logging_of("none") as made:
        made.traces.write(samples.filtered(), CHANGED, ["Open until 12:04"])
    assert made.entries == []


def test_news_beyond_the_budget_are_counted() -> None:
    """They are lost as lines are, and announced with them."""
    with logging_of("changes") as made:
        made.traces.write(samples.filtered(), UNCHANGED, ["x" * 1_000] * 20)
    assert made.stats.dropped > 0
    assert len(made.entries) + made.stats.dropped == 21


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("change", [CHANGED, UNCHANGED])
def test_hostile_text_stays_within_its_entry(log_format: Format, change: Change) -> None:
    """Every line of the log is printable, and the entry has no more lines than it should."""
    with logging_of("changes", log_format) as made:
        made.traces.write(samples.hostile(), change)
        made.traces.write(samples.hostile("harmless"), change)
    hostile, harmless = made.entries
    assert all(line.isprintable() for line in hostile.split("\n"))
    assert hostile.count("\n") == harmless.count("\n")
    assert hostile.encode()


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_trace_that_is_too_long_becomes_its_line(log_format: Format) -> None:
    """No entry is cut by the platform: what exceeds the budget at once is told in short."""
    long = replace(samples.filtered().verdict, evidence=("fact" * 100,) * 100)
    with logging_of("all", log_format) as made:
        made.traces.write(replace(samples.filtered(), verdict=long), CHANGED)
    (entry,) = made.entries
    assert summary_line(samples.filtered()) in entry
    assert len(entry) < 1_000


def test_lines_beyond_the_budget_are_counted_and_announced() -> None:
    """When there is room again, one line says how many were dropped, before anything else."""
    with logging_of("changes") as made:
        while not made.stats.dropped:
            made.traces.write(samples.filtered(), UNCHANGED)
        made.traces.write(samples.filtered(), UNCHANGED)
        before = len(made.entries)
        made.now += 60
        made.traces.write(samples.filtered(), UNCHANGED)
        made.traces.write(samples.filtered(), UNCHANGED)
    assert made.stats.dropped == 2
    told = [entry.split(" ", 2)[2][:-1] for entry in made.entries[before:]]
    gap = "2 trace lines are missing here: the log's budget was spent"
    assert told == [gap, summary_line(samples.filtered()), summary_line(samples.filtered())]


# -- the budget ------------------------------------------------------------------------

MINUTES = 5


def ticks(targets: int, interval: float) -> list[tuple[float, int]]:
    """(second, target) of five minutes, as the scheduler spreads them."""
    cadences = joining((), targets, interval, 0.0, first_spacing(interval, targets))
    return sorted((at, n) for n, cadence in enumerate(cadences) for at in times(cadence))


def times(cadence: Cadence) -> Iterable[float]:
    """The ticks of one target in five minutes."""
    at = cadence.first
    while at < 60 * MINUTES:
        yield at
        at = cadence.next_tick(at)


class Platform:
    """Cloud Foundry's limit: a bucket that holds and refills 16 KiB a second."""

    def __init__(self) -> None:
        self.level = float(PLATFORM_RATE)
        self.at = 0.0

    def takes(self, size: int, now: float) -> bool:
        """Whether it would let this pass."""
        self.level = min(PLATFORM_RATE, self.level + (now - self.at) * PLATFORM_RATE) - size
        self.at = now
        return self.level >= 0


def named(observation: Observation, name: str) -> Observation:
    """The same for a target of another name."""
    return replace(observation, target=replace(observation.target, name=name))


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("name", ["target-{}", "対象" * 20 + "{}"], ids=["ascii", "wide"])
def test_a_hundred_targets_that_all_change_stay_within_the_budget(
    log_format: Format, name: str
) -> None:
    """Every 5 seconds, for five minutes: less than 16 KB/s, and the platform drops nothing."""
    kinds = (samples.opened(), samples.filtered())
    platform = Platform()
    with logging_of("changes", log_format) as made:
        planned = ticks(100, 5.0)
        for turn, (made.now, target) in enumerate(planned):
            before = made.sink.bytes
            made.traces.write(named(kinds[turn // 100 % 2], name.format(target)), CHANGED)
            assert platform.takes(made.sink.bytes - before, made.now)
    assert len(planned) == 100 * 60
    assert made.sink.bytes < 16_000 * 60 * MINUTES
    # It is a limit, not a muzzle: most of it is used.
    assert made.sink.bytes > 8_000 * 60 * MINUTES


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_hundred_targets_at_the_default_interval_lose_nothing(log_format: Format) -> None:
    """The first trace of each stands there in full, and each later one as a line."""
    seen: set[int] = set()
    with logging_of("changes", log_format) as made:
        planned = ticks(100, 60.0)
        for made.now, target in planned:
            change = UNCHANGED if target in seen else replace(UNCHANGED, first=True)
            seen.add(target)
            made.traces.write(named(samples.filtered(), f"t{target}"), change)
    assert made.stats.dropped == 0
    assert len(made.entries) == len(planned)
    full = [entry for entry in made.entries if "no answer to any probe past" in entry]
    assert len(full) == 100
