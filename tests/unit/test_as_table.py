"""The table of autonomous systems: both formats, what is in what, what is wrong, what it weighs."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.as_table import MANY_BAD, AsTable, Origin, load

RANGES = """\
1.0.0.0\t1.0.0.255\t64500\tAU\tEXAMPLE-AP - Example, Inc.
1.0.1.0\t1.0.3.255\t0\tNone\tNot routed
1.0.4.0\t1.0.7.255\t64501\tAU\tWIDE \u00fcber\n
2001:db8::\t2001:db8:7:ffff:ffff:ffff:ffff:ffff\t64502\tDE\tSIX
"""
PREFIXES = """\
# routeviews-rv2
10.0.0.0\t8\t64510
10.1.0.0\t16\t64511_64512
10.1.2.0\t24\t64513,64514
10.255.255.255\t32\t64515
2001:db8::\t32\t64516
2001:db8:1::\t48\t{64517,64518}
"""


def table(tmp_path: Path, text: str | bytes) -> AsTable:
    """The table in a file with this content."""
    path = tmp_path / "table"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path)


def numbers(found: AsTable, *addresses: str) -> list[int | None]:
    """The numbers of the systems that announce addresses."""
    return [origin.number if (origin := found.origin(a)) else None for a in addresses]


# -- the two formats -------------------------------------------------------------------


def test_ranges(tmp_path: Path) -> None:
    """A range holds from its first address to its last; number 0 means nobody."""
    found = table(tmp_path, RANGES)
    assert found.origin("1.0.0.0") == Origin(64500, "EXAMPLE-AP - Example, Inc.")
    assert found.origin("1.0.6.7") == Origin(64501, "WIDE \u00fcber")
    inside = ("1.0.0.255", "1.0.4.0", "1.0.7.255", "2001:db8::", "2001:db8:7:ffff::")
    assert numbers(found, *inside) == [64500, 64501, 64501, 64502, 64502]
    outside = ("0.255.255.255", "1.0.1.0", "1.0.3.255", "1.0.8.0", "2001:db7::", "2001:db8:8::")
    assert numbers(found, *outside) == [None] * 6
    assert (found.networks, found.warning) == (4, "")


def test_prefixes(tmp_path: Path) -> None:
    """The smallest network counts, and behind it the one around it goes on."""
    found = table(tmp_path, PREFIXES)
    addresses = ("10.0.0.0", "10.1.1.255", "10.1.2.7", "10.1.3.0", "10.2.0.0", "10.255.255.255")
    assert numbers(found, *addresses) == [64510, 64511, 64513, 64511, 64510, 64515]
    assert numbers(found, "11.0.0.0", "9.255.255.255") == [None, None]
    assert numbers(found, "2001:db8:2::", "2001:db8:1:2::3", "2001:db9::") == [64516, 64517, None]
    assert found.origin("10.0.0.1") == Origin(64510, "")


def test_the_highest_address_ends_a_table(tmp_path: Path) -> None:
    """A network up to the last address of all is no special case."""
    found = table(tmp_path, "0.0.0.0\t0\t1\n255.255.255.255\t32\t2\n::\t0\t3\nffff::\t16\t4\n")
    assert numbers(found, "0.0.0.1", "255.255.255.254", "255.255.255.255") == [1, 1, 2]
    assert numbers(found, "::", "fffe::", "ffff:ffff::") == [3, 3, 4]


def test_a_compressed_table_is_the_same(tmp_path: Path) -> None:
    """Compression is known by its first bytes, whatever the file is called."""
    found = table(tmp_path, gzip.compress(RANGES.encode()))
    assert numbers(found, "1.0.0.1", "2001:db8::1") == [64500, 64502]


NETWORKS = st.builds(
    lambda bits, length: ip_network((0x0A000000 | bits, length), strict=False),
    st.integers(0, 0xFF),
    st.integers(24, 32),
)


@given(st.dictionaries(NETWORKS, st.integers(1, 9), min_size=1, max_size=30), st.randoms())
def test_rows_in_any_order_mean_the_smallest_network(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[object, int], shuffler: random.Random
) -> None:
    """However networks contain each other and in whatever order, the smallest one decides."""
    networks = [(ip_network(str(network)), number) for network, number in rows.items()]
    shuffler.shuffle(networks)
    lines = (f"{n.network_address}\t{n.prefixlen}\t{number}\n" for n, number in networks)
    found = table(tmp_path_factory.getbasetemp(), "".join(lines))
    for number in range(0x0A000000 - 1, 0x0A000102):
        address = ip_address(number)
        around = [(n.prefixlen, origin) for n, origin in networks if address in n]
        assert numbers(found, str(address)) == [max(around)[1] if around else None]


def test_ranges_that_overlap_do_no_harm(tmp_path: Path) -> None:
    """Of two ranges that overlap without containing each other the later one has what both have."""
    found = table(tmp_path, "10.0.0.0\t10.0.0.9\t1\tX\tA\n10.0.0.5\t10.0.0.20\t2\tX\tB\n")
    assert numbers(found, "10.0.0.4", "10.0.0.5", "10.0.0.20", "10.0.0.21") == [1, 2, 2, None]


# -- what is wrong ---------------------------------------------------------------------

GOOD = "".join(f"10.0.{n}.0\t24\t{n + 1}\n" for n in range(200))


@pytest.mark.parametrize(
    "line",
    [
        *("nonsense", "10.0.0.0", "10.0.0.0\t24", "10.0.0.0\t33\t1", "10.0.0.1\t24\t1"),
        *("10.0.0.9\t10.0.0.1\t1\tX\tA", "10.0.0.0\t2001:db8::\t1\tX\tA", "10.0.0.0\t24\tx"),
        *("10.0.0.0\t24\t4294967296", "10.0.0.0\t24\t-1", "2001:db8::\t129\t1", "300.0.0.0\t8\t1"),
        *("\xff\xfe\t8\t1", "x" * 5000, f"10.0.0.0\t{'9' * 1000}\t1"),
    ],
)
def test_a_bad_line_is_left_out_with_one_warning(tmp_path: Path, line: str) -> None:
    """The others count, and the warning says how many are missing and where the first one is."""
    found = table(tmp_path, f"# a comment\n\n{line}\n{GOOD}".encode("latin-1"))
    assert found.networks == 200
    assert "that cannot be read and are left out, first line 3" in found.warning
    assert numbers(found, "10.0.7.7") == [8]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no row that names a network and a system"),
        (b"# nothing\n\n", "has no row that names a network and a system"),
        (b"nonsense\n", "has no row that names a network and a system"),
        (b"<html>\n" * 5, "is no table as iptoasn.com or CAIDA (pfx2as) publish them"),
        (b"<html>\n" * 10**6, "for one from line 1 on"),
        (os.urandom(100_000), "is no table as iptoasn.com or CAIDA (pfx2as) publish them"),
        (gzip.compress(RANGES.encode())[:-20], "cannot be read: "),
        (b"\x1f\x8b\x08 and what is not gzip at all", "cannot be read: "),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, said: str) -> None:
    """A file of another kind is refused with a predicate for its name."""
    with pytest.raises(ValueError, match=r"(is|has|cannot) ") as caught:
        table(tmp_path, content)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_is_no_table_is_not_read_to_its_end(tmp_path: Path) -> None:
    """After so many bad lines and hardly a good one the rest does not matter."""
    path = tmp_path / "table"
    path.write_bytes(b"nonsense\n" * (MANY_BAD + 1) + GOOD.encode() * 100)
    with pytest.raises(ValueError, match="from line 1 on"):
        load(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and a pipe end with a reason, and nothing waits for a writer."""
    os.mkfifo(tmp_path / "pipe")
    for name, said in {
        "missing": "cannot be read: No such file or directory",
        ".": "should be a regular file",
        "pipe": "should be a regular file",
    }.items():
        with pytest.raises(ValueError, match=said):
            load(tmp_path / name)


# -- what it weighs --------------------------------------------------------------------

#: Prints by how many KiB a table makes the process grow at most.
MEASURE = """
import re, sys
from pathlib import Path
from exporter.as_table import load
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
table = load(sys.argv[1])
print(peak() - before, table.networks)
"""


def test_a_tenth_of_the_internet_takes_less_than_a_tenth_of_40_mb(tmp_path: Path) -> None:
    """Rows cost bytes, not objects: 50,000 of IPv4, 20,000 of IPv6, 8,000 systems."""
    path = tmp_path / "table"
    with path.open("w") as file:
        for n in range(70_000):
            prefix = f"2001:{n // 256:x}:{n % 256:x}::\t48"
            if n < 50_000:
                prefix = f"{n // 256 + 1}.{n % 256}.0.0\t24"
            system = n % 8_000
            file.write(f"{prefix}\t{system + 1}\tX\tEXAMPLE-{system} A Provider of a Region\n")
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, networks = map(int, done.stdout.split())
    assert networks == 70_000
    assert grown < 4 << 10
