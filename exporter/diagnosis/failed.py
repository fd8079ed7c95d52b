"""The prober or its host could not do its part."""

from __future__ import annotations

from exporter.diagnosis.words import facts_of
from exporter.model import Confidence, Failure, FailureReason, State, Trace, Verdict


def failed(failure: Failure, trace: Trace | None) -> Verdict:
    """The verdict on a trace that could not be made, or not to its end."""
    unresolved = failure.reason is FailureReason.RESOLVE
    return Verdict(
        state=State.UNRESOLVED if unresolved else State.ERROR,
        last_reachable_hop=0,
        reason=f"Not measured: {failure.message}.",
        confidence=Confidence.LOW,
        evidence=facts_of(trace) if trace else (),
    )
