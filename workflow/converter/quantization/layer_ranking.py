"""Which layers lose most by quantization, and which to keep in float: the ranking in reports/{name}.layers.json.

Each operator runs twice on the same values, in float and in integers: the difference is that operator's own error, not what
it inherits. How, its format says (`FloatFile.layer_errors`). What keeping the worst ones in float is worth for the whole model
is then tried and measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from converter.contracts import Export, ExportJob
from converter.errors import ParameterError, UnsupportedError
from converter.hub.hub import Hub
from converter.quantization.files import LayerError
from converter.quantization.kinds import kind_of
from converter.quantization.model import FloatModel, float_job

__all__ = ["rank_layers"]

_SAMPLES = 32
_MOST_TRIALS = 5
_WORTH_DB = 3.0  # minimum gain of SQNR per float layer, in dB, for the whole model: half of the noise


def rank_layers(hub: Hub, job: ExportJob, export_float: Export, folder: Path) -> dict:
    """The ranking as a mapping (schema: configs/layers.schema.json). `folder` is for files in between.

    Raises ParameterError for a target without integer arithmetic, UnsupportedError where there is no right float file.
    """
    kind = kind_of(job.quantization)
    if kind is None or kind.form != "integer":
        raise ParameterError(
            f"{job.target} is not computed in integers, so that no layer loses by that: ask for the layers of an "
            ".int8 or .uint8 file, or write quantization.load"
        )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        extension = Path(job.target).suffix
        path = (Path(temporary) / "float32").with_suffix(extension)
        result = export_float(hub, float_job(job), path)
        if result.verification is not None and not result.verification.passed:
            raise UnsupportedError(f"the float file is wrong already: {result.verification.message}")
        model = FloatModel(hub, job, kind, path, result)
        errors = model.file.layer_errors(
            model.kept, model.calibration, lambda: model.held_out(_SAMPLES), Path(temporary)
        )
        errors = sorted(errors, key=_order)
        trials = _trials(model, errors, (Path(temporary) / "trial").with_suffix(extension))
        evaluated_on = model.samples()[1]
    return {
        "target": job.target,
        "source": {key: hub.source.get(key) for key in ("path", "format", "sha256", "bytes")},
        "quantization": job.quantization,
        "measured_on": evaluated_on,
        "layers": [error.to_json(rank) for rank, error in enumerate(errors, 1)],
        "kept_float": [layer.name for layer in model.kept],
        "trials": trials,
        "proposal": _proposal(trials),
        "notes": model.notes,
    }


def _order(error: LayerError) -> tuple[bool, float]:
    return error.sqnr is None, error.sqnr or 0.0


def _trials(model: FloatModel, errors: Sequence[LayerError], path: Path) -> list[dict]:
    """The whole model with none of the ranked layers in float, with the worst one, the two worst, and so on.

    They end before a trial that would be no integer model any more.
    """
    worst = [error.layer for error in errors if error.sqnr is not None][:_MOST_TRIALS]
    trials = []
    for count in range(len(worst) + 1):
        keep = [*model.kept, *worst[:count]]
        try:
            model.quantize(path, keep)
        except UnsupportedError:  # nothing would be left to compute in integers
            if not count:
                raise
            break
        verification = model.measure(path, _SAMPLES).verification
        ratios = [entry["sqnr_db"] for entry in verification.outputs if entry.get("sqnr_db") is not None]
        cosines = [entry["cosine"] for entry in verification.outputs if entry.get("cosine") is not None]
        trials.append(
            {
                "keep_float": [layer.name for layer in keep],
                "sqnr_db": min(ratios, default=None),
                "cosine": min(cosines, default=None),
                "bytes": path.stat().st_size,
                "passed": verification.passed,
            }
        )
    return trials


def _proposal(trials: Sequence[dict]) -> dict:
    """The trial that gains most, where each layer in float has to gain 3 dB; no layers where none does."""
    base = trials[0]["sqnr_db"]
    if base is None or any(trial["sqnr_db"] is None for trial in trials):
        return {"keep_float": [], "gain_db": None, "reason": "the outputs have no signal-to-noise ratio to gain by"}
    worth = [trial["sqnr_db"] - base - _WORTH_DB * position for position, trial in enumerate(trials)]
    count = worth.index(max(worth))
    if not count:
        most = max(trial["sqnr_db"] for trial in trials) - base
        reason = f"no layer stands out: keeping up to {len(trials) - 1} in float gains {most:.1f} dB"
        return {"keep_float": [], "gain_db": None, "reason": reason}
    chosen = trials[count]
    gain = chosen["sqnr_db"] - base
    more = chosen["bytes"] / trials[0]["bytes"] - 1
    reason = (
        f"{'1 layer' if count == 1 else f'{count} layers'} in float raise the signal-to-quantization-noise ratio from "
        f"{base:.1f} to {chosen['sqnr_db']:.1f} dB, and the file's size by {more:.0%}"
    )
    return {"keep_float": chosen["keep_float"], "gain_db": gain, "reason": reason}
