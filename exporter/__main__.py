"""The command line: serve (default), trace, check.

Here stands what can be asked for; what is done stands in `commands`, where each command imports
what it alone needs. So help and completion come at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from exporter import __version__

USAGE_ERROR, INTERRUPTED = 2, 130
SHELLS = ("bash", "zsh", "tcsh")

PROGRAM = """\
Traces TCP egress paths and says where traffic stops, and who stops it.

Without a command it serves page and metrics of the configured targets.
"""
PROGRAM_END = """\
settings are environment variables; those that matter most:
  ENDPOINTS           what serve traces: "db=db.example.com:5432 [2001:db8::1]:443"
  CONFIG_FILE         the same and more as YAML
  PLATFORM_NETWORKS   what is inside your platform: 10.0.0.0/8,fd00::/8
  PORT                of page and metrics (8080)
  INTERVAL_SECONDS    from one trace of a target to the next (60)
  ENGINE              auto, syn (needs CAP_NET_RAW) or connect
docs/configuration.md lists all of them; `check` shows what they lead to.

examples:
  egress-exporter trace db.example.com:5432
  ENDPOINTS=db.example.com:5432 egress-exporter check
  ENDPOINTS=db.example.com:5432 egress-exporter serve

completion of the command line, in bash:
  eval "$(egress-exporter --print-completion bash)"
"""
TRACE = """\
Trace endpoints now: where the traffic stops, who stops it, and on which side of the platform's
edge. On a terminal the trace is shown while it grows.
"""
TRACE_END = """\
exit status; of several endpoints the one that stands first here:
    1  blocked, or intercepted
    4  unknown: the evidence does not tell, or the host could not probe
    3  closed: reached, and nobody listens on the port
    0  open
  otherwise:
    2  wrong usage or configuration
  130  interrupted before the first trace was complete

examples:
  egress-exporter trace db.example.com:5432
  egress-exporter trace db=10.9.5.2:5432 web=www.example.com:443 [2001:db8::1]:443
  egress-exporter trace db.example.com:5432 --platform 10.0.0.0/8
  egress-exporter trace db.example.com:5432 --watch 30 >> db.log
  egress-exporter trace db.example.com:5432 --json | jq .verdict
  egress-exporter trace db.example.com:5432 --evidence db.zip

environment, besides NO_COLOR and TERM:
  PLATFORM_NETWORKS   as --platform
  ENGINE              as --engine
  CONTROL_PORTS       other ports of the destination that tell a filter from a dead host (443,80)
  MAX_HOPS, ATTEMPTS, TIMEOUT_SECONDS   of each trace (30, 3, 2)
  REVERSE_DNS         true: look up the names of hops
What to trace comes from the command line alone. docs/terminal.md shows more.
"""
CHECK = """\
Read the settings of the environment and of CONFIG_FILE, and print what `serve` would do with
them. Sends no probe. Exits with 2 when something is wrong.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.print_completion:
        import shtab

        print(shtab.complete(parser, options.print_completion))
        return 0
    from exporter.settings import ConfigurationError

    try:
        status: int = options.run(options)
    except ConfigurationError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="egress-exporter",
        description=PROGRAM,
        epilog=PROGRAM_END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--print-completion",
        choices=SHELLS,
        help="print what completes this command line in a shell",
    )
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="serve | trace | check")
    commands.add_parser(
        "serve", help="trace the configured targets and serve page and metrics (default)"
    ).set_defaults(run=_serve)
    _add_trace(
        commands.add_parser(
            "trace",
            help="trace endpoints now",
            description=TRACE,
            epilog=TRACE_END,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    commands.add_parser(
        "check",
        help="validate the configuration and print what it will do",
        description=CHECK,
    ).set_defaults(run=_check)
    return parser


def _add_trace(trace: argparse.ArgumentParser) -> None:
    trace.add_argument(
        "endpoints",
        metavar="HOST:PORT",
        nargs="+",
        help="or NAME=HOST:PORT; several are traced at the same time",
    )
    trace.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object; of several endpoints a line each",
    )
    trace.add_argument("--engine", choices=("auto", "syn", "connect"), help="instead of ENGINE")
    trace.add_argument(
        "--platform", metavar="CIDR,...", help="the platform's networks, for PLATFORM_NETWORKS"
    )
    trace.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=10.0,
        help="trace every so many seconds (default 10, at least 1) until Ctrl-C",
    )
    trace.add_argument(
        "--evidence",
        metavar="FILE",
        type=Path,
        help="write what was seen to a zip, or to a page if FILE ends in .html",
    )
    trace.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set",
    )
    trace.set_defaults(run=_trace)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} should be seconds; endpoints stand before --watch"
        ) from None


def _serve(options: argparse.Namespace) -> int:
    # Until the service has its own: the first process of a container has no default for it.
    signal.signal(signal.SIGTERM, _leave)
    # Here and not for all: `trace` and `check` do without the web server's 30 MB.
    from exporter.commands import serve

    return serve.run(options)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _trace(options: argparse.Namespace) -> int:
    from exporter.commands import trace

    return trace.run(options)


def _check(options: argparse.Namespace) -> int:
    from exporter.commands import check

    return check.run(options)


if __name__ == "__main__":
    sys.exit(main())
