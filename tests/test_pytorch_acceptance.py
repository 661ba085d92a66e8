"""PyTorch files of every form to every format, as a user converts them: by name, in one run, each proven."""

import os

import onnx
import pytest
from conftest import Project
from pytorch_sources import DETECTORS, NETWORKS, write_detectors, write_networks

from converter.verification.runtimes import KerasModel, OnnxModel, TFLiteModel

EXTENSIONS = ("onnx", "tflite", "keras", "h5")
UNETS = [f"unet.{extension}" for extension in EXTENSIONS]
# The original's sixteen, and two of a later time.
TORCHVISION = [
    "resnet18",
    "alexnet",
    "squeezenet1_0",
    "densenet161",
    "googlenet",
    "shufflenet_v2_x1_0",
    "mobilenet_v2",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "mnasnet1_0",
    "inception_v3",
    "fcn_resnet50",
    "deeplabv3_resnet50",
    "r3d_18",
    "mc3_18",
    "r2plus1d_18",
    "vit_b_16",
    "swin_t",
]


def convert(project: Project, names: list[str], config: dict | None = None) -> None:
    """One run; every file is there and verified on evidence that is not weak, and a second run has nothing to do."""
    targets = [f"converted/{name}" for name in names]
    run = project.snakemake(*targets, config=config)
    assert run.returncode == 0, run.stderr
    for target in targets:
        report = project.report(target.removeprefix("converted/"))
        assert report["status"] == "verified", target
        assert not report["verification"]["weak_evidence"], target
        if target.endswith(".onnx"):
            model = onnx.load(project.folder / target, load_external_data=False)
            assert [report["opset"]] == [entry.version for entry in model.opset_import if entry.domain == ""]
    assert "Nothing to be done" in project.snakemake(*targets, config=config).stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict]:
    """A folder with the files, and the configuration for them."""
    project = Project(tmp_path_factory.mktemp("pytorch"))
    (project.folder / "facenet").mkdir()
    return project, {"models": {**write_networks(project.folder), **write_detectors(project.folder)}}


@pytest.fixture(scope="module")
def project(written: tuple[Project, dict]) -> Project:
    """Each form of file to two formats, and each format from about as many forms."""
    names = [f"{model}.{EXTENSIONS[(i + j) % 4]}" for i, model in enumerate(NETWORKS | DETECTORS) for j in (0, 1)]
    convert(written[0], sorted({*names, "two_inputs.onnx", "two_inputs.tflite", *UNETS}), written[1])
    return written[0]


@pytest.mark.slow
def test_every_form_of_file_becomes_every_format(written: tuple[Project, dict]) -> None:
    names = [f"{model}.{extension}" for model in NETWORKS | DETECTORS for extension in EXTENSIONS]
    convert(written[0], names, written[1])


def test_names_are_those_of_forward_and_images_are_channels_last(project):
    folder = project.folder / "converted"
    assert [spec.name for spec in OnnxModel(folder / "two_inputs.onnx").inputs] == ["left", "right"]
    assert [spec.name for spec in TFLiteModel(folder / "two_inputs.tflite").outputs] == ["sum", "scaled"]
    assert OnnxModel(folder / "unet.onnx").inputs[0].shape == (None, 3, 16, 24)
    for model in (
        TFLiteModel(folder / "unet.tflite"),
        KerasModel(folder / "unet.keras"),
        KerasModel(folder / "unet.h5"),
    ):
        assert model.inputs[0].shape == (None, 16, 24, 3)
    report = project.report("unet.tflite")
    assert any("input x is channels-last" in note for note in report["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("model", TORCHVISION)
def test_torchvision(tmp_path, model):
    """From the zoo's recipes, with random weights under which outputs vary."""
    convert(Project(tmp_path), [f"{model}.{extension}" for extension in ("onnx", "tflite", "keras")])
    os.unlink(tmp_path / "zoo" / f"{model}.pt")  # temporary folders are kept for a while, and these are large
