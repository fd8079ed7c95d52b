"""What has changed, for real: a firewall begins to drop, and the exporter is restarted."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import OpenLab
from tests.lab.exporting import Exporter, exporting
from tests.lab.lab import Lab
from tests.scenarios import FOLDER, load

SCENARIO = load(FOLDER / "mid_path_firewall.toml")
#: The hop that begins to drop; its router answers all the same.
CULPRIT = 4
END_SECONDS = 10


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """A path with an open port."""
    return open_lab(SCENARIO)


def settings(path: Path) -> Mapping[str, str]:
    """One target, and a file for its memory."""
    return {
        "ENDPOINTS": f"web={SCENARIO.destination}:443",
        "INTERVAL_SECONDS": "4",
        "STATE_FILE": str(path),
    }


def story(exporter: Exporter) -> Any:
    """What the API tells of the target."""
    return json.loads(exporter.fetch("/api/v1/targets/web")[1])


def end(exporter: Exporter) -> None:
    """Stop it as a platform does."""
    exporter.signal(signal.SIGTERM)
    assert exporter.process.wait(END_SECONDS) == 0


def drop(lab: Lab) -> None:
    """Switch the firewall on."""
    lab.nft(CULPRIT, "add rule inet lab forward tcp dport 443 drop")


def check(told: Any) -> None:
    """The range comes from the last good trace, and the change is told with both paths."""
    assert told["verdict"]["state"] == "filtered"
    assert told["verdict"]["suspect_hops"] == [CULPRIT, CULPRIT + 1]
    change = told["change"]
    assert (change["was"], change["state"]) == ("open", "filtered")
    routers = [SCENARIO.address(hop) for hop in (CULPRIT, CULPRIT + 1)]
    assert f" via ... {routers[0]}, {routers[1]}, " in change["sentence"]
    assert f" filtered after hop {CULPRIT} ({routers[0]}); " in change["sentence"]
    assert f"up to hop {CULPRIT} the way is the same" in change["sentence"]
    assert [hop["hop"] for hop in change["first_bad_path"]] == list(range(1, CULPRIT + 1))
    assert len(change["last_good_path"]) == SCENARIO.hops


def test_a_block_is_told_beside_what_was_and_survives_a_restart(lab: Lab, tmp_path: Path) -> None:
    """Log, API and page say until when it was open, and so does the next process."""
    path = tmp_path / "state.json"
    with exporting(lab, settings(path)) as exporter:
        exporter.wait_for("verdict: open")
        drop(lab)
        exporter.wait_for(" INFO web: Open until ")
        before = story(exporter)
        check(before)
        assert "Open until" in exporter.fetch("/")[1]
        end(exporter)
    assert path.stat().st_mode & 0o777 == 0o600
    with exporting(lab, settings(path)) as exporter:
        exporter.wait_for_traces("web")
        after = story(exporter)
        check(after)
        assert after["change"] == before["change"]
        assert after["state_since"] == before["state_since"]
        assert after["last_good"]["started_at"] == before["last_good"]["started_at"]
        assert after["first_bad"]["started_at"] == before["first_bad"]["started_at"]
        assert "Open until" in exporter.fetch("/targets/web")[1]
        end(exporter)


def test_a_block_that_begins_while_nobody_looks_is_told_as_well(lab: Lab, tmp_path: Path) -> None:
    """Open when the one process ended, blocked when the next one begins."""
    path = tmp_path / "state.json"
    with exporting(lab, settings(path)) as exporter:
        exporter.wait_for("verdict: open")
        end(exporter)
    drop(lab)
    with exporting(lab, settings(path)) as exporter:
        exporter.wait_for(" INFO web: Open until ")
        check(story(exporter))
        end(exporter)


def test_a_file_that_is_none_is_a_warning(lab: Lab, tmp_path: Path) -> None:
    """The exporter begins without a memory, and replaces what it could not read."""
    path = tmp_path / "state.json"
    path.write_text("no state")
    with exporting(lab, settings(path)) as exporter:
        line = exporter.wait_for("the state file")
        assert f"WARNING the state file {path} is not used: it is no JSON" in line
        exporter.wait_for_traces("web")
        assert path.read_text() == "no state"
        end(exporter)
    assert json.loads(path.read_text())["targets"][0]["name"] == "web"
