# Converter: name the file you want, and its source is found, converted, and proven to compute the same.
#
#   converted/{model}[.{variant}].{ext}     what you ask for: onnx, tflite (float16, dynamic, int8, uint8), pb, h5, keras
#   reports/{model}[.{variant}].{ext}.json  how it was made and verified, whether it succeeded or not
#   reports/{model}.inspect.json            what the source holds, and what it can become
#   reports/{model}.int8.layers.json        what quantization costs each layer, and which to keep in float
#   reports/{model}.quantization.html       size, latency and accuracy of all quantized files of a model, on one page
#   intermediate/{model}-{key}/             the source, read once for all its targets
#   benchmarks/{target}.json                how fast it runs; reports/profile.html compares them
#   reports/coverage.html                   what became of all targets, in one table
#   rejected/                               files that did not compute what their source computes
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")
sys.path.insert(0, os.path.join(workflow.basedir, "workflow"))
from converter.remote import Storage
from converter.session import open_session


# "from any working directory": the configuration lies beside this file, not where the models are.
configfile: os.path.join(workflow.basedir, "configs", "config.yaml")


report: os.path.join(workflow.basedir, "workflow", "report", "overview.rst")


session = open_session(config, Path(workflow.basedir), workflow.is_main_process)
session.limit_memory(workflow)
planned = session.rule_inputs
session.planner.storage = Storage(storage, offline=not workflow.is_main_process)


wildcard_constraints:
    model=r"[^/]+",
    name=r".+",


# Here and not in rules/: an included file does not set the default target (Snakemake 9.27).
rule all:
    """Make the file of every job in the configuration that is not skipped."""
    input:
        planned.default_targets,


include: "rules/publish.smk"
include: "rules/storage.smk"
include: "rules/keras.smk"
include: "rules/savedmodel.smk"
include: "rules/checkpoint.smk"
include: "rules/protobuf.smk"
include: "rules/pytorch.smk"
include: "rules/onnx.smk"
include: "rules/tflite.smk"
include: "rules/quantization.smk"
include: "rules/report.smk"
include: "rules/coverage.smk"
include: "rules/benchmark.smk"
include: "rules/zoo.smk"
include: "rules/toolchains.smk"


onstart:
    session.start(workflow)


onerror:
    session.finish(workflow)
