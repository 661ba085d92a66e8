"""What a run says last when neither a step nor Snakemake could say it well: crashes, no memory, disks that cannot be written."""

from __future__ import annotations

import atexit
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from converter.running.log_filter import _Filter
from converter.running.session import Session, _existing


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\nthe step crashed (SIGABRT)\n",
            "lack of memory",
        ),
        ("some warning\nthe step crashed (SIGSEGV)\n", "a library crashed in a step (SIGSEGV, logs/x.onnx.log)"),
        ("W0000 nothing of importance\n", "a step was ended before it finished"),
    ],
)
def test_a_step_that_could_not_speak(text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = Path("logs", "x.onnx.log")
    log.parent.mkdir()
    log.write_text(text)
    session = Session(SimpleNamespace())
    assert sentence in session._end_of_step([Path("logs", "missing.log"), log])
    os.utime(log, (1e9, 1e9))  # of an earlier run
    assert "a step was ended before it finished" in session._end_of_step([log])


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("digits.onnx", "ask for converted/digits.onnx, or write a job with convert_to: digits.onnx"),
        ("models/digits.onnx", "ask for converted/digits.onnx, or write a job with convert_to: models/digits.onnx"),
        ("reports/digits", "targets are converted/NAME.onnx and such"),
    ],
)
def test_a_target_that_no_rule_makes(target: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(atexit, "register", lambda function, sentence, **_: said.append(sentence))
    text = f"MissingRuleException:\nNo rule to produce {target} (if you use input functions make sure that they don't ...)."
    assert not _Filter().filter(logging.LogRecord("snakemake", logging.ERROR, "", 0, text, None, None))
    assert said[0].startswith(f"{target}: no rule makes it: {advice}")


def test_snakemakes_own_trouble_with_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(atexit, "register", lambda function, sentence, **_: said.append(sentence))

    def shown(message: str) -> bool:
        return _Filter().filter(logging.LogRecord("snakemake", logging.ERROR, "", 0, message, None, None))

    traceback = (
        "Traceback (most recent call last):\n\n  File \"x.py\", line 1\n\nOSError: [Errno {}] {}: 'converted/a.onnx'\n"
    )
    assert not shown(traceback.format(30, "Read-only file system"))
    assert said[0].startswith("converted/a.onnx cannot be written (Read-only file system): make room or give rights")
    assert not shown("Traceback (most recent call last):\n\nOSError: [Errno 28] No space left on device\n")
    assert said[1].startswith("this folder cannot be written (No space left on device)")
    assert not shown(
        "WorkflowError:\nFailed to create output directory r.\nOSError: [Errno 30] Read-only file system: 'r/s'"
    )
    assert said[2].startswith("r/s cannot be written (Read-only file system)")
    assert shown("Traceback (most recent call last):\n\nFileNotFoundError: [Errno 2] No such file or directory: 'x'\n")
    assert shown("Traceback (most recent call last):\n\nKeyError: 'x'\n") and len(said) == 3


def test_the_folder_that_must_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _existing("converted/a/b.onnx") == "."
    Path("converted").mkdir()
    assert _existing("converted/a/b.onnx") == "converted"
    assert _existing(str(tmp_path / "x" / "y")) == str(tmp_path)
