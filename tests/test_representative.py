"""Representative data: every form a script may yield, and a sentence for everything that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converter.errors import ParameterError
from converter.hub.hub import TensorSpec
from converter.quantization.representative import RepresentativeData

IMAGE = TensorSpec("image", (None, 4, 4, 1), "float32")
IDS = TensorSpec("ids", (None, 3), "int32")
HEADER = "import numpy as np\nx = np.ones((1, 4, 4, 1), np.float32)\nids = np.ones((1, 3), np.int32)\n"


def script(tmp_path: Path, body: str, header: str = HEADER) -> Path:
    path = tmp_path / "rep.py"
    path.write_text(header + body)
    return path


def dataset(expression: str, count: int = 3) -> str:
    return f"def get_dataset():\n    for i in range({count}):\n        yield {expression}\n"


def data(path: Path, *inputs: TensorSpec, by_row: bool = True) -> RepresentativeData:
    return RepresentativeData(path, inputs or [IMAGE], by_row=by_row)


def arrays(representative: RepresentativeData) -> list[list[np.ndarray]]:
    return list(representative.calibration())


@pytest.mark.parametrize("expression", ["x", "[x]", "(x,)", "{'image': x}", "[x.tolist()]", "x.astype('float64')"])
def test_one_input(tmp_path, expression):
    samples = arrays(data(script(tmp_path, dataset(expression))))
    assert [[a.shape for a in sample] for sample in samples] == [[(1, 4, 4, 1)]] * 3
    assert all(sample[0].dtype == np.float32 for sample in samples)


@pytest.mark.parametrize("expression", ["[x, ids]", "(x, ids)", "{'ids': ids, 'image': x}", "[x, ids.astype('int64')]"])
def test_two_inputs_come_in_the_order_of_the_model(tmp_path, expression):
    samples = arrays(data(script(tmp_path, dataset(expression)), IMAGE, IDS))
    assert [(a.shape, a.dtype.name) for a in samples[0]] == [((1, 4, 4, 1), "float32"), ((1, 3), "int32")]


@pytest.mark.parametrize("package", ["tensorflow", "torch"])
def test_tensors_and_the_original_tools_pairs(tmp_path, package):
    make = {
        "tensorflow": "import tensorflow\nt = tensorflow.constant(x)\n",
        "torch": "import torch\nt = torch.tensor(x)\n",
    }
    make["torch"] += "t.requires_grad_(True)\n"
    for expression in ("t", "[t]", "(t, 7)", "{'image': t}"):
        path = script(tmp_path, make[package] + dataset(expression))
        assert arrays(data(path))[0][0].shape == (1, 4, 4, 1)


def test_rows_of_a_batch_are_samples_where_the_batch_is_free(tmp_path):
    path = script(tmp_path, dataset("np.arange(80, dtype=np.float32).reshape(5, 4, 4, 1) + i"))
    representative = data(path)
    assert representative.count == 15
    assert all(sample[0].shape == (1, 4, 4, 1) for sample in representative.calibration())
    fixed = TensorSpec("image", (5, 4, 4, 1), "float32")
    assert data(path, fixed, by_row=False).count == 3


def test_get_dataset_is_called_afresh_for_each_pass_and_every_fifth_sample_is_held_out(tmp_path):
    path = script(tmp_path, dataset("x * i", 20))
    representative = data(path)
    for _ in range(2):
        kept = [int(sample[0].max()) for sample in representative.calibration()]
        held = [int(sample[0].max()) for sample in representative.evaluation()]
        assert held == [4, 9, 14, 19] and sorted(kept + held) == list(range(20))
    assert len(list(representative.evaluation(limit=2))) == 2


def test_few_samples_all_calibrate_and_the_report_warns(tmp_path):
    representative = data(script(tmp_path, dataset("x * i", 1)))
    assert len(arrays(representative)) == len(list(representative.evaluation())) == 1
    assert "1 sample; 100 or more" in representative.notes[0]
    assert data(script(tmp_path, dataset("x * i", 100))).notes == []


BAD = {
    "x[0]": "sample 0 .*expected float32 \\[-1,4,4,1\\], found float32 \\[4,4,1\\]; a batch of 1",
    "np.zeros((1, 5, 5, 1), np.float32)": "expected float32 \\[-1,4,4,1\\], found float32 \\[1,5,5,1\\]",
    "x.astype('complex64')": "expected float32 .*found complex64",
    "x * (np.nan if i == 2 else 1)": "sample 2 .*NaN",
    "[x, x]": "expected 1 arrays, for image, found 2",
    "{'imag': x}": "expected the inputs image, found imag; did you mean image",
    "'text'": "input image is str, expected an array",
    "None": "input image is NoneType",
    "[[1, 2], [3]]": "expected 1 arrays",
    "x if i < 2 else 1 / 0": "raised ZeroDivisionError: division by zero at sample 2 \\(line 6\\)",
    "np.zeros((0, 4, 4, 1), np.float32)": "found float32 \\[0,4,4,1\\]",
}


@pytest.mark.parametrize("expression", BAD)
def test_samples_that_do_not_fit(tmp_path, expression):
    with pytest.raises(ParameterError, match=BAD[expression]) as caught:
        data(script(tmp_path, dataset(expression)))
    assert "quantization.load" in str(caught.value) and "\n" not in str(caught.value)


def test_integers_are_taken_for_floats_without_loss_only(tmp_path):
    """uint8 images for a float input are what they are: 0 to 255, as the model sees them."""
    assert arrays(data(script(tmp_path, dataset("(x * 255).astype('uint8')"))))[0][0].max() == 255
    with pytest.raises(ParameterError, match="expected int32 .*found float32"):
        data(script(tmp_path, dataset("[x, ids.astype('float32')]")), IMAGE, IDS)


BROKEN = {
    "no get_dataset": ("", "defines no function get_dataset"),
    "syntax": ("def get_dataset(:\n", "SyntaxError"),
    "missing module": ("import no_such_module\n", "ModuleNotFoundError.*no_such_module"),
    "nothing returned": ("def get_dataset():\n    pass\n", "returned NoneType"),
    "nothing yielded": ("def get_dataset():\n    return iter([])\n", "yields no samples"),
    "raises at once": ("def get_dataset():\n    raise OSError('no disk')\n", "raised OSError: no disk"),
    "sizes differ": (dataset("np.zeros((1, 4 + i, 4, 1), np.float32)"), "samples of different sizes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_scripts_that_do_not_work_are_one_sentence(tmp_path, case):
    body, message = BROKEN[case]
    free = TensorSpec("image", (None, None, 4, 1), "float32")
    with pytest.raises(ParameterError, match=message) as caught:
        data(script(tmp_path, body), free)
    assert str(caught.value).startswith("quantization.load") and "\n" not in str(caught.value)


def test_a_list_of_samples_will_do(tmp_path):
    assert data(script(tmp_path, "def get_dataset():\n    return [x, x]\n")).count == 2


def test_npz(tmp_path):
    path = tmp_path / "data.npz"
    images, ids = np.ones((6, 4, 4, 1), np.float32), np.ones((6, 3), np.int32)
    np.savez(path, image=images, ids=ids, labels=np.arange(6))
    assert data(path, IMAGE, IDS).count == 6
    assert [a.shape for a in arrays(data(path, IMAGE, IDS))[0]] == [(1, 4, 4, 1), (1, 3)]
    np.savez(path, anything=images)
    assert data(path).count == 6
    fixed = TensorSpec("image", (4, 4, 1), "float32")  # no batch: the leading axis is the samples'
    assert arrays(data(path, fixed, by_row=False))[0][0].shape == (4, 4, 1)
    with pytest.raises(ParameterError, match="holds no array image, ids; it holds anything"):
        data(path, IMAGE, IDS)
    np.savez(path, image=images, ids=ids[:2])
    with pytest.raises(ParameterError, match="same number of samples.*image 6, ids 2"):
        data(path, IMAGE, IDS)
    path.write_bytes(b"not a zip")
    with pytest.raises(ParameterError, match="damaged or truncated"):
        data(path)
    with pytest.raises(ParameterError, match="there is no file"):
        data(tmp_path / "missing.py")


@pytest.mark.parametrize(
    ("shape", "dims", "hint"),
    [
        ((1, 8, 6, 3), (None, 3, 8, 6), "look channels-last: load is in the source's layout, channels first"),
        ((1, 3, 8, 6), (None, 8, 6, 3), "look channels-first: load is in the source's layout, channels last"),
        ((1, 4, 8, 6, 3), (None, 3, 4, 8, 6), "look channels-last"),
        ((1, 9, 9, 3), (None, 3, 8, 6), "found float32 \\[1,9,9,3\\]$"),
    ],
)
def test_images_in_another_layout_than_the_sources(tmp_path, shape, dims, hint):
    np.savez(tmp_path / "x.npz", x=np.zeros(shape, np.float32))
    with pytest.raises(ParameterError, match=hint):
        data(tmp_path / "x.npz", TensorSpec("x", dims, "float32"))
