"""What a refusal of the host's kernel says about the host, for every engine."""

from __future__ import annotations

import errno

from exporter.model import Failure, FailureReason

_REASONS = {
    errno.EPERM: FailureReason.PERMISSION,
    errno.EACCES: FailureReason.PERMISSION,
    errno.ENETUNREACH: FailureReason.NO_ROUTE,
    errno.EHOSTUNREACH: FailureReason.NO_ROUTE,
    errno.ENETDOWN: FailureReason.NO_ROUTE,
    errno.ENODEV: FailureReason.NO_ROUTE,
    errno.ENXIO: FailureReason.NO_ROUTE,
    errno.EADDRNOTAVAIL: FailureReason.NO_ROUTE,
    errno.EINVAL: FailureReason.NO_ROUTE,
}
_CLAUSES = {
    FailureReason.PERMISSION: "this host's own firewall or policy refuses to send",
    FailureReason.NO_ROUTE: "this host has no route or its interface is down",
    FailureReason.INTERNAL: "this host could not send",
}


def failure_of(error: OSError) -> Failure:
    """What an errno of a send or a connect says about this host."""
    reason = _REASONS.get(error.errno or 0, FailureReason.INTERNAL)
    return Failure(reason, f"{_CLAUSES[reason]} ({error.strerror})")
