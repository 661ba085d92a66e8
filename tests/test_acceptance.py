"""What the README promises, with models of real size: two of keras.applications, from recipes, to two formats each."""

from __future__ import annotations

from conftest import Project


def test_applications_from_recipes(project: Project) -> None:
    targets = [f"converted/{model}.{kind}" for model in ("VGG16", "MobileNetV2") for kind in ("onnx", "tflite")]
    run = project.snakemake(*targets)
    assert run.returncode == 0, run.stderr
    assert project.converted() == sorted(target.removeprefix("converted/") for target in targets)
    for name in project.converted():
        report = project.report(name)
        assert report["status"] == "verified"
        assert not report["verification"]["weak_evidence"]
        assert all(step["cpu_seconds"] > 0 and step["peak_memory_mb"] > 0 for step in report["steps"])
    again = project.snakemake(*targets)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr
