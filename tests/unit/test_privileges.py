"""After drop() the process has no right to lose, and its sockets still work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import json, socket, struct, threading
from pathlib import Path
from exporter import privileges

def status(task="self"):
    lines = Path(f"/proc/{task}/status").read_text().splitlines()
    return dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)

raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.settimeout(5)
privileges.drop()

def refused():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except PermissionError:
        return True
    return False

later = {}
thread = threading.Thread(target=lambda: later.update(status("thread-self")))
thread.start()
thread.join()

# An echo request to ourselves (RFC 792), its checksum right: it comes back to every raw socket.
raw.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FF, 0, 0), ("127.0.0.1", 0))
keys = ("CapEff", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Uid")
print(json.dumps({
    "process": {key: status()[key] for key in keys},
    "thread": {key: later[key] for key in keys},
    "refused": refused(),
    "received": len(raw.recv(2048)),
}))
"""
NONE = "0" * 16


@pytest.fixture(scope="module")
def dropped() -> dict[str, Any]:
    """What a process says about itself after it has dropped its privileges."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root, to have something to drop", pytrace=False)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("who", ["process", "thread"])
def test_no_capability_is_left(dropped: dict[str, Any], who: str) -> None:
    """No capability is effective, permitted, inheritable or ambient, in later threads either."""
    assert {dropped[who][key] for key in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {NONE}


@pytest.mark.parametrize("who", ["process", "thread"])
def test_no_privilege_can_be_gained(dropped: dict[str, Any], who: str) -> None:
    """No program that this process starts gets more than it has."""
    assert dropped[who]["NoNewPrivs"] == "1"


def test_the_user_stays(dropped: dict[str, Any]) -> None:
    """Files that root owns stay readable."""
    assert dropped["process"]["Uid"].split() == ["0"] * 4


def test_open_sockets_still_work(dropped: dict[str, Any]) -> None:
    """A raw socket opened before still sends and receives, and no new one can be opened."""
    assert dropped["refused"]
    assert dropped["received"] == 28
