"""A plain connect(), as any application on this host would make it."""

from __future__ import annotations

import asyncio
import os
import socket
import time

from exporter.model import Handshake

#: Long enough for the kernel's SYNs at 0, 1 and 3 s (RFC 6298's initial timeout of 1 s), and for
#: a host or router that gives up on a dead neighbour after 3 s: here 3.06 to 3.1 s, later where it
#: is busy.
HANDSHAKE_TIMEOUT = 3.4


async def connect(address: str, port: int, timeout: float = HANDSHAKE_TIMEOUT) -> Handshake:
    """Connect and close at once; every outcome is a `Handshake`, none an exception."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    began = time.monotonic()
    try:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            # Not wait_for(): in Python 3.11 it swallows a cancellation that meets the result.
            async with asyncio.timeout(timeout):
                await loop.sock_connect(client, (address, port))
    except TimeoutError as error:
        # The kernel's own ETIMEDOUT is a TimeoutError, too; both mean that nobody answered.
        waited = os.strerror(error.errno) if error.errno else f"no answer within {timeout:g} s"
        return Handshake(success=False, duration=time.monotonic() - began, error=waited)
    except OSError as error:
        # asyncio's own text repeats the address instead of saying what happened.
        text = os.strerror(error.errno) if error.errno else str(error)
        return Handshake(success=False, duration=time.monotonic() - began, error=text)
    return Handshake(success=True, duration=time.monotonic() - began)
