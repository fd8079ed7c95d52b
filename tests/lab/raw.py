"""Sends packets as they are; run by path inside a lab, standard library only.

python raw.py DESTINATION < lines of hexadecimal packets, of the destination's IP version
"""

from __future__ import annotations

import socket
import sys


def main(destination: str) -> None:
    """Send a packet for each line of standard input."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for line in sys.stdin:
            raw.sendto(bytes.fromhex(line), (destination, 0))


if __name__ == "__main__":
    main(sys.argv[1])
