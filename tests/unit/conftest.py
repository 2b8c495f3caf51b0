"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.configuration import PASSWORD, SLACK_URL, Files


@pytest.fixture
def configuration(tmp_path: Path) -> Files:
    """Writes config.toml, the secrets of the example beside it, and drop-ins; gives back its path."""

    def write(text: str = "", **drop_ins: str) -> Path:
        (tmp_path / "config.toml").write_text(text)
        (tmp_path / "eureka-password").write_text(PASSWORD + "\n")
        (tmp_path / "slack-url").write_text(SLACK_URL + "\n")
        for name, content in drop_ins.items():
            (tmp_path / "config.d").mkdir(exist_ok=True)
            (tmp_path / "config.d" / f"{name}.toml").write_text(content)
        return tmp_path / "config.toml"

    return write
