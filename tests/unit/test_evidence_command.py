"""`trace --evidence FILE` refuses before it traces what it could not do afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.__main__ import USAGE_ERROR, main
from exporter.commands import proof, trace
from exporter.config import load
from exporter.model import EngineStatus
from exporter.settings import ConfigurationError
from tests.unit import samples


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened, so nothing can be sent."""

    def opened(_settings: object) -> None:
        pytest.fail("an engine was opened")

    monkeypatch.setattr(trace, "open_engine", opened)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["192.0.2.1:1", "192.0.2.2:2"], "--evidence takes one endpoint"),
        (["192.0.2.1:1", "--watch"], "goes without --watch"),
    ],
)
def test_it_takes_one_endpoint_once(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With several endpoints, or again and again, it would not be clear whose evidence it is."""
    file = tmp_path / "e.zip"
    assert main(["trace", "--evidence", str(file), *arguments]) == USAGE_ERROR
    assert said in capsys.readouterr().err
    assert not file.exists()


def test_a_missing_folder_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody waits for a trace that cannot be written down."""
    file = tmp_path / "none" / "e.zip"
    assert main(["trace", "192.0.2.1:1", "--evidence", str(file)]) == USAGE_ERROR
    assert capsys.readouterr().err == (
        f"--evidence cannot be written: there is no folder {file.parent}\n"
    )


def test_a_refusal_of_the_file_system_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails only while it is written is no traceback."""

    def refuse(_path: Path, _dossier: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(proof, "write", refuse)
    settings = load({"ENDPOINTS": "192.0.2.1:1"})
    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        proof.prove(tmp_path / "e.zip", samples.opened(), settings, EngineStatus("syn", ""))
    assert caught.value.problems[0].endswith("No space left on device")
