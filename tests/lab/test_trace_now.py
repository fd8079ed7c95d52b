"""`POST /-/trace/NAME` for real: a new trace, soon and whole, and no more than is allowed."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from exporter.schedule.asking import PAUSE
from tests.lab.conftest import OpenLab
from tests.lab.exporting import Exporter, exporting
from tests.scenarios import FOLDER, load

SCENARIO = load(FOLDER / "mid_path_firewall.toml")
INTERVAL = 4


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Leave it to the caller."""


def post(exporter: Exporter, name: str) -> tuple[int, str | None, str | None]:
    """The answer's status, where it leads to, and after how many seconds to ask again."""
    request = urllib.request.Request(f"{exporter.address}/-/trace/{name}", method="POST")  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(_Stay()).open(request, timeout=10)
    with caught.value as answer:
        return answer.code, answer.headers["Location"], answer.headers["Retry-After"]


def story(exporter: Exporter) -> dict[str, Any]:
    """What the API says of the target."""
    told: dict[str, Any] = json.loads(exporter.fetch("/api/v1/targets/web")[1])
    return told


def test_a_post_gives_a_new_whole_trace(open_lab: OpenLab) -> None:
    """It begins at once, with all attempts where the cycle makes one; the next one has to wait."""
    settings = {
        "ENDPOINTS": f"web={SCENARIO.destination}:443",
        "INTERVAL_SECONDS": str(INTERVAL),
        "CANARY": "false",
    }
    with exporting(open_lab(SCENARIO), settings) as exporter:
        exporter.wait_for_traces("web")
        # The first traces of a target are whole; then all but every tenth are quick.
        while (before := story(exporter))["hops"][1]["sent"] > 1:
            exporter.wait_for_traces("web")
        assert post(exporter, "web") == (303, "/targets/web", None)
        exporter.wait_for_traces("web")
        asked = story(exporter)
        assert asked["started_at"] > before["started_at"]
        assert (before["hops"][1]["sent"], asked["hops"][1]["sent"]) == (1, 3)
        assert asked["verdict"]["state"] == "open"
        status, page, wait = post(exporter, "web")
        assert (status, page) == (429, None)
        assert 0 < int(wait or 0) <= PAUSE
        assert post(exporter, "nobody")[0] == 404
