# Converter: name the file you want, and its source is found, converted, and proven to compute the same.
#
#   converted/{model}[.{variant}].{ext}     what you ask for: onnx, tflite (float16, dynamic, int8, uint8), pb, h5, keras
#   converted/{model}.xml                    with .bin beside it: OpenVINO's intermediate representation
#   converted/{model}[.{variant}].cc         with .h beside it: the TensorFlow Lite file as a C array, for microcontrollers
#   reports/{model}[.{variant}].{ext}.json  how it was made and verified, whether it succeeded or not
#   reports/{model}.inspect.json            what the source holds, and what it can become
#   reports/{model}.{ext}.layers.json       how a float onnx or tflite file differs from the source, layer by layer
#   reports/{model}.int8.layers.json        what quantization costs each layer, and which to keep in float
#   reports/{model}.devices.html            which devices the files of a model fit, and what does not
#   reports/{model}.quantization.html       size, latency and accuracy of all quantized files of a model, on one page
#   intermediate/{model}-{key}/             the source, read once for all its targets
#   benchmarks/{target}.json                how fast it runs; reports/profile.html compares them
#   reports/coverage.html                   what became of all targets, in one table
#   rejected/                               files that did not compute what their source computes
import sys

from snakemake.utils import min_version

min_version("9.27")
sys.path.insert(0, f"{workflow.current_basedir}/workflow")
from converter.planning.storage import Storage
from converter.running.session import open_session


# The configuration lies beside this file, not where the models are.
configfile: f"{workflow.current_basedir}/configs/config.yaml"


report: f"{workflow.current_basedir}/workflow/report/overview.rst"


session = open_session(config, workflow)
session.limit_memory(workflow)
planned = session.rule_inputs
session.planner.storage = Storage(storage, offline=not workflow.is_main_process)


# Line breaks too, so that a name with one is refused like any other mistake in a target.
wildcard_constraints:
    model=r"[^/]+",
    name=r"(?s:.+)",
    target=r"(?s:.+)",


# Here and not in rules/: an included file does not set the default target (Snakemake 9.27).
rule all:
    """Make the file of every job in the configuration that is not skipped."""
    input:
        planned.default_targets,


for topic in (
    *(
        "publish",
        "storage",
        "import",
        "export",
        "keras",
        "savedmodel",
        "checkpoint",
        "protobuf",
        "pytorch",
        "huggingface",
        "onnx",
        "tflite",
        "micro",
        "openvino",
    ),
    *("quantization", "layers", "devices", "report", "coverage", "benchmark", "zoo", "toolchains"),
):

    include: f"rules/{topic}.smk"


onstart:
    session.start(workflow)


onerror:
    session.finish(workflow)
