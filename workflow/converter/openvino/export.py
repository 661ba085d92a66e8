"""Any source as an IR of OpenVINO: its verified ONNX file, converted, and compared with the source again in OpenVINO."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from converter.contracts import Export, ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.formats.target_formats.openvino import OPENVINO
from converter.hub.hub import Hub
from converter.openvino.runtime import OpenVINOModel
from converter.verification.runtimes import check_interface
from converter.verification.verify import verify
from converter.wording import first_line

__all__ = ["export"]


def export(hub: Hub, job: ExportJob, staged: Path, export_onnx: Export) -> ExportResult:
    """Write `staged` (.xml) and its weights beside it (.bin), of the file that `export_onnx` writes.

    Raises UnsupportedError where ONNX cannot express the model, or OpenVINO cannot read or run what ONNX expresses. A wrong
    ONNX file ends the export with that file's verdict.
    """
    import openvino

    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        onnx_path, path = Path(folder) / "model.onnx", Path(folder) / "model.xml"
        result = export_onnx(hub, replace(job, target=f"{job.target.removesuffix('.xml')}.onnx"), onnx_path)
        beside = OPENVINO.staged_beside(staged)
        assert beside is not None
        if result.verification is None or not result.verification.passed:
            for place in (staged, beside):
                place.write_bytes(b"")
            return result
        try:
            model = openvino.convert_model(onnx_path)
            # The default would round all weights to float16.
            openvino.save_model(model, path, compress_to_fp16=False)
            del model
            file = OpenVINOModel(path)
            check_interface(file, [spec.name for spec in hub.inputs], [spec.name for spec in hub.outputs])
            places = {spec.name: place for place, spec in enumerate(hub.inputs)}
            fed = [places[spec.name] for spec in file.inputs]
            verification = verify(
                hub.outputs,
                hub.reference(),
                lambda arrays: file.run([arrays[place] for place in fed]),
                job.tolerance,
                file.name,
            )
        except RuntimeError as error:  # all of OpenVINO's (2026.4)
            raise UnsupportedError(
                f"OpenVINO cannot run the model's ONNX file ({first_line(error)}): ask for .onnx"
            ) from error
        path.with_suffix(".bin").replace(beside)
        path.replace(staged)
    return replace(
        result,
        route=[*result.route, "openvino.convert_model"],
        inputs=file.inputs,
        outputs=file.outputs,
        verification=verification,
    )
