"""The part of the lab that runs in its own namespaces; run by path, standard library only.

    unshare ... python inside.py hold                 pid 1 of the lab
    python inside.py enter PID LISTENER COMMAND ...   a command where the process PID has gone

`hold` reads one line of JSON (`lab.Plan`) from its standard input, builds what it says,
answers with one line, "ready" or what went wrong, and then accepts and closes connections to
the open ports until its standard input ends. That happens when whoever opened the lab closes
it or dies, however it dies; and when pid 1 of a namespace ends, the kernel kills every other
process in it, and the namespaces go with the last of them.

`enter` is nsenter with three differences: signals reach the command, its exit status comes
back, and a listening socket can be handed down as descriptor 3 (LISTENER, or -1 for none).
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

#: Where Debian keeps ip and nft; the PATH of an ordinary user lacks both.
SYSTEM_PATH = "/usr/sbin:/sbin"
#: The first descriptor of socket activation, sd_listen_fds(3).
LISTEN_FDS_START = 3
PR_SET_PDEATHSIG = 1  # linux/prctl.h
SI_USER = 0  # siginfo: sent by kill(2), not by the kernel on behalf of the terminal
#: In this order: the user namespace gives the right to enter the others.
NAMESPACES = ("user", "mnt", "net", "pid_for_children")
FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
#: The network namespace of the thread that asks, which is the only thread.
HERE = Path("/proc/self/ns/net")

SYSCTL = Path("/proc/sys/net")
#: Each interface's. Without accept_dad=0 its link-local address, in whose name routers ask for
#: their neighbours, could not be used for the first second or two.
IPV6_SETTINGS = {"disable_ipv6": 0, "accept_ra": 0, "autoconf": 0, "accept_dad": 0}

libc = ctypes.CDLL(None, use_errno=True)


def setns(fd: int) -> None:
    """Move this thread into the namespace behind an open descriptor."""
    if libc.setns(fd, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


# -- hold ------------------------------------------------------------------------------


def hold() -> None:
    """Build the lab, then keep it until standard input ends."""
    plan = json.loads(sys.stdin.readline())
    try:
        listeners = build(plan)
    except (OSError, RuntimeError) as error:
        print(error, flush=True)
        return
    # Orphans of the lab's commands become children of pid 1: let the kernel reap them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    serve(listeners)


def build(plan: dict[str, Any]) -> list[socket.socket]:
    """Make the namespaces and links, then each device; returns the listening sockets."""
    # `ip netns` keeps names in /run/netns: one of the lab's own, writable without root.
    run("mount", "-t", "tmpfs", "lab", "/run")
    run("ip", "-batch", "-", given=plan["links"])
    return [listener for device in plan["devices"] for listener in build_device(device)]


def build_device(device: dict[str, Any]) -> list[socket.socket]:
    """Configure one namespace from within; the prober's is the one that we are in."""
    with network_of(device["name"]):
        configure_kernel(forwards=device["forwards"])
        for path, value in device["kernel"]:
            (SYSCTL / path).write_text(value)
        run("ip", "-batch", "-", given=device["ip"])
        if device["ip6"]:
            run("ip", "-6", "-batch", "-", given=device["ip6"])
        if device["nft"]:
            run("nft", "-f", "-", given=device["nft"])
        # A socket stays in the namespace that it was made in.
        return [listen(port) for port in device["ports"]]


def configure_kernel(*, forwards: bool) -> None:
    """Have both families on every interface of this namespace, by nothing but what is given."""
    (SYSCTL / "ipv4/ip_forward").write_text(str(int(forwards)))
    for interface in (SYSCTL / "ipv6/conf").iterdir():
        for key, value in IPV6_SETTINGS.items():
            (interface / key).write_text(str(value))
        (interface / "forwarding").write_text(str(int(forwards)))


def listen(port: int) -> socket.socket:
    """A listening socket for both families."""
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)


@contextmanager
def network_of(name: str) -> Iterator[None]:
    """Be in the network namespace `name` for a while; "" is the prober's, where we are."""
    if not name:
        yield
        return
    with HERE.open("rb") as home, Path("/run/netns", name).open("rb") as there:
        setns(there.fileno())
        try:
            yield
        finally:
            setns(home.fileno())


def run(*argv: str, given: str = "") -> None:
    """Run a tool; a failure is a RuntimeError with the tool's first line."""
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(f"{argv[0]}: {said[0]}")


def serve(listeners: list[socket.socket]) -> None:
    """Accept and close until standard input ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for listener in listeners:
            selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.accept()[0].close()


# -- enter -----------------------------------------------------------------------------


def enter(pid: int, listener: int, argv: list[str]) -> NoReturn:
    """Run a command in the namespaces of `pid`, and end as it ends."""
    if listener >= 0:
        os.dup2(listener, LISTEN_FDS_START)
    watched = FORWARDED | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        join(pid)
        child = os.fork()
    except OSError as error:
        sys.exit(f"the lab is not there: {error.strerror}")
    if child == 0:
        become(argv, before)
    leave_as(wait_for(child, watched))


def join(pid: int) -> None:
    """Enter the namespaces of `pid`; its process namespace holds from the next fork on."""
    folder = Path.cwd()
    ours, theirs = Path("/proc/self/ns"), Path(f"/proc/{pid}/ns")
    # To enter the user namespace that one is in already is an error (EINVAL).
    differ = [name for name in NAMESPACES if not (ours / name).samefile(theirs / name)]
    # All are opened before the first is entered: /proc is another one afterwards.
    for fd in [os.open(theirs / name, os.O_RDONLY | os.O_CLOEXEC) for name in differ]:
        setns(fd)
    os.chdir(folder)  # entering a mount namespace leads to its root


def become(argv: list[str], mask: set[signal.Signals | int]) -> NoReturn:
    """In the child: turn into the command, with the signals as the caller had them."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would keep that
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


def wait_for(child: int, watched: set[signal.Signals]) -> int:
    """Pass signals on until the child ends; returns its exit code, negative for a signal.

    A Ctrl-C reaches the child from the terminal as it reaches us, so only what somebody sent
    to us by kill(2) is passed on.
    """
    while True:
        info = signal.sigwaitinfo(watched)
        if info.si_signo != signal.SIGCHLD:
            if info.si_code == SI_USER:
                os.kill(child, info.si_signo)
        elif (ended := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])


def leave_as(code: int) -> NoReturn:
    """Exit with the code, or die of the signal that it stands for."""
    if code < 0:
        if code not in (-signal.SIGKILL, -signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["hold"]:
            hold()
        case ["enter", pid, listener, *argv] if argv:
            enter(int(pid), int(listener), argv)
        case _:
            sys.exit(__doc__)
