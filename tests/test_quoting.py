"""Names and values that a shell, Snakemake or a terminal would take for their own: through every rule as they are."""

from __future__ import annotations

import pytest
from conftest import Project
from text_graphs import linear

# A command in every way that a shell knows, a redirection, patterns, Snakemake's variables, and the start of an option.
NAME = (
    "-x $(touch pwned) `touch pwned`;touch pwned&touch pwned|'\"\\ >pwned $HOME * ~ é模 {threads} {{ <b> <results> %s"
)
CONTROL = ["new\nline", "return\rhere", "escape\x1b[31m", "tab\there"]


def test_names_that_others_would_take_for_their_own(project: Project) -> None:
    (project.folder / "models" / f"{NAME}.pbtxt").write_text(linear())
    targets = [f"converted/{NAME}.{extension}" for extension in ("onnx", "tflite", "float16.tflite")]
    targets += [
        f"reports/{NAME}.inspect.json",
        f"benchmarks/{NAME}.onnx.json",
        "reports/profile.html",
        "reports/coverage.html",
    ]
    targets += [f"converted/missing {NAME}.onnx", f"converted/sub {NAME}/{NAME}.onnx"]
    run = project.snakemake("--cores=2", "--keep-going", *targets)
    assert "Traceback" not in run.stderr, run.stderr[-3000:]
    missing = targets[-2]
    for target in targets:
        assert (project.folder / target).exists() == (target != missing), (target, run.stderr[-3000:])
    assert [line for line in run.stderr.splitlines() if line.startswith(f"{missing}: no source for ")]
    assert not list(project.folder.rglob("pwned"))
    assert project.report(f"{NAME}.onnx")["status"] == "verified"


def test_values_that_others_would_take_for_their_own(project: Project) -> None:
    """Each ends its own target only, and is shown as it was written."""
    (project.folder / "models" / "good.pbtxt").write_text(linear())
    values = {
        "input_nodes": "$(touch pwned)", "output_nodes": "`touch pwned`;touch pwned", "network_name": "'; touch pwned; '",
        "state_dict_key": "-x {threads} \"$HOME\"", "savedmodel_tag": "<b> & touch pwned",
    }  # fmt: skip
    jobs = [
        {"convert_from": "models/good.pbtxt", "convert_to": f"converted/{key}.onnx", key: value}
        for key, value in values.items()
    ]
    jobs.append({"convert_from": "models/good.pbtxt", "convert_to": "converted/good.onnx"})
    run = project.snakemake("--keep-going", config={"jobs": jobs})
    assert "Traceback" not in run.stderr, run.stderr[-3000:]
    assert "converted/good.onnx" in run.stdout + run.stderr and (project.folder / "converted" / "good.onnx").exists()
    assert not list(project.folder.rglob("pwned"))
    sentences = run.stderr.splitlines()
    for key in ("input_nodes", "output_nodes"):
        (sentence,) = (line for line in sentences if line.startswith(f"converted/{key}.onnx: "))
        assert values[key].split(",")[0] in sentence, sentence


@pytest.mark.parametrize("name", [*CONTROL[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in CONTROL[1:])])
def test_control_characters_in_a_target(name: str, project: Project) -> None:
    (project.folder / "models" / "good.pbtxt").write_text(linear())
    run = project.snakemake("converted/good.onnx", f"converted/{name}.onnx")
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr[-3000:]
    shown = name.encode("unicode_escape").decode()
    assert run.stderr.rstrip().endswith(
        f"converted/{shown}.onnx: its name has a line break or another control character: ask for it without"
    )
    assert run.stderr.count("ask for it without") == 1 and "a step was ended" not in run.stderr
    assert project.converted() == ["good.onnx"]
