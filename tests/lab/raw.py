"""Sends packets as they are; run by path inside a lab, standard library only.

python raw.py DESTINATION < lines of hexadecimal IPv4 packets
"""

from __future__ import annotations

import socket
import sys


def main(destination: str) -> None:
    """Send a packet for each line of standard input."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for line in sys.stdin:
            raw.sendto(bytes.fromhex(line), (destination, 0))


if __name__ == "__main__":
    main(sys.argv[1])
