"""The examples run on a room of their own: every task answered, every refusal with its reason."""

from pathlib import Path
from typing import Any

import pytest

from examples import run_all, show
from geometry_jax.tasks import TASK_IDS


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Drawing has its own tests; here each picture is one of a pixel's size."""
    replies: dict[str, dict[str, Any]] = {}
    ask = show.ask

    def kept(*arguments: Any) -> Any:
        reply, path = ask(*arguments)
        replies[path.stem] = reply
        return reply, path

    monkeypatch.setattr(show, "ask", kept)
    monkeypatch.setattr(show.picture, "draw", lambda request, reply, path: path.touch())
    run_all.main(tmp_path)
    answered = {name for name, reply in replies.items() if reply["is_valid"]}
    assert set(TASK_IDS) < answered
    refused = {name.removeprefix("refused_"): reply for name, reply in replies.items()}
    reasons = {name: refused[name].get("reason") for name in refused.keys() - answered}
    assert reasons.pop("one_image") is None  # too few images are no question
    assert len(reasons) == 8
    assert all(reason == name.upper() for name, reason in reasons.items())
    assert f"26 pictures in {tmp_path}" in capsys.readouterr().out
