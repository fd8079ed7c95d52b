"""Where the pages lead: what the web server has of a target, by the target's name."""

from __future__ import annotations

from urllib.parse import quote


def page_link(name: str) -> str:
    """Its own page."""
    return f"/targets/{_segment(name)}"


def object_link(name: str) -> str:
    """The same as JSON."""
    return f"/api/v1/targets/{_segment(name)}"


def evidence_link(name: str, of: str, form: str) -> str:
    """One of its kept observations, latest, first-bad or last-good, as a file: zip or html."""
    return f"/api/v1/evidence/{_segment(name)}?of={of}&format={form}"


def trace_again_link(name: str) -> str:
    """Where a form asks for a trace now."""
    return f"/-/trace/{_segment(name)}"


def _segment(name: str) -> str:
    """A name as one segment of a path. "surrogatepass": every name has a link, readable or not."""
    return quote(name, safe="", errors="surrogatepass")
