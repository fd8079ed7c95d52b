"""Which instance answers, and how to reach another one, in words for the pages.

A load balancer in front of several instances picks one for each request, and each of them traces
from another place.
"""

from __future__ import annotations

from exporter.model import Source
from exporter.publish.text import printable
from exporter.store import Store


def answered_by(source: Source) -> str:
    """E.g. "instance 1 of egress (org / space) on cell 10.0.4.7"; "" when nothing is known."""
    # Only Cloud Foundry numbers its instances.
    words = _on_cloud_foundry if source.instance_index else _on_kubernetes
    return printable(words(source))


def _on_cloud_foundry(source: Source) -> str:
    home = " / ".join(filter(None, (source.organization, source.space)))
    parts = (
        f"instance {source.instance_index}",
        source.application and f"of {source.application}",
        home and f"({home})",
        source.cell and f"on cell {source.cell}",
        source.instance_guid and f"with GUID {source.instance_guid}",
    )
    return " ".join(filter(None, parts))


def _on_kubernetes(source: Source) -> str:
    parts = (
        source.instance_guid and f"pod {source.instance_guid}",
        source.cell and f"on node {source.cell}",
    )
    return " ".join(filter(None, parts))


def routing_headers(source: Source) -> tuple[str, ...]:
    """The headers by which Cloud Foundry's router sends a request to the instance INDEX.

    X-Cf-App-Instance takes the app's GUID. X-Cf-Process-Instance, of newer routers, takes that of
    a process: while a rolling deployment runs, an app has two.
    """
    guids = {
        "X-Cf-App-Instance": source.application_guid,
        "X-Cf-Process-Instance": source.process_guid,
    }
    return tuple(printable(f"{header}: {guid}:INDEX") for header, guid in guids.items() if guid)


def part_traced(store: Store) -> str:
    """E.g. "instance 1 of 4, counted from 0, traces 250 of 1,000 targets"; "" for all of them."""
    if store.share is None:
        return ""
    return (
        f"instance {store.share.index} of {store.share.count}, counted from 0, traces "
        f"{len(store):,} of {store.configured:,} targets"
    )
