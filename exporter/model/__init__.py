"""The words of this program as types: frozen values, standard library only.

A `Target` is what the user configured. A `Trace` is what was sent and received for it:
`Hop`s, each with the `Probe`s sent at that TTL and the `Answer`s to them. A `Verdict`
is what the trace means. An `Observation` is all of it for one target at one time, and
the only thing that the store, the pages, the metrics and the log ever read.

Units: seconds everywhere. `sent_at` and `received_at` are on the monotonic clock
(differences only); `started_at` is seconds since the epoch, for people.
Addresses are text as `inet_ntop` writes them.
"""

from exporter.model.asked import (
    CANARIES,
    FAMILY_NAMES,
    FULL_TTL,
    MAX_ADDRESSES,
    Controls,
    Family,
    Plan,
    Target,
    joined,
)
from exporter.model.captured import MOST_PACKETS, SNAP, Capture, Packet, packed, unpacked
from exporter.model.meant import (
    BLOCKED_STATES,
    NOWHERE,
    REACHED_STATES,
    Condition,
    Confidence,
    Known,
    Location,
    NamedZone,
    Observation,
    Place,
    State,
    Verdict,
    Zone,
)
from exporter.model.measured import (
    END_KINDS,
    TCP_KINDS,
    Answer,
    Controlled,
    Failure,
    FailureReason,
    Flow,
    Handshake,
    Hop,
    MplsLabel,
    Probe,
    ProbeError,
    Reply,
    ReplyKind,
    Sounding,
    StopReason,
    Surroundings,
    Trace,
)
from exporter.model.program import (
    EngineStatus,
    Proxy,
    ReloadStatus,
    Share,
    Source,
    SourceStatus,
)

__all__ = [
    "BLOCKED_STATES",
    "CANARIES",
    "END_KINDS",
    "FAMILY_NAMES",
    "FULL_TTL",
    "MAX_ADDRESSES",
    "MOST_PACKETS",
    "NOWHERE",
    "REACHED_STATES",
    "SNAP",
    "TCP_KINDS",
    "Answer",
    "Capture",
    "Condition",
    "Confidence",
    "Controlled",
    "Controls",
    "EngineStatus",
    "Failure",
    "FailureReason",
    "Family",
    "Flow",
    "Handshake",
    "Hop",
    "Known",
    "Location",
    "MplsLabel",
    "NamedZone",
    "Observation",
    "Packet",
    "Place",
    "Plan",
    "Probe",
    "ProbeError",
    "Proxy",
    "ReloadStatus",
    "Reply",
    "ReplyKind",
    "Share",
    "Sounding",
    "Source",
    "SourceStatus",
    "State",
    "StopReason",
    "Surroundings",
    "Target",
    "Trace",
    "Verdict",
    "Zone",
    "joined",
    "packed",
    "unpacked",
]
