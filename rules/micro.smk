# C arrays for TensorFlow Lite Micro: NAME.cc with its header NAME.h, from every source format.


# Compared with the source in TensorFlow Lite Micro.
use rule export_added as export_micro with:
    output:
        staged=temp("intermediate/staged/{name}.{extension}"),
        header=temp("intermediate/staged/{name}.{extension}.h"),
        report="reports/{name}.{extension}.json",
    wildcard_constraints:
        extension=planned.extensions_of("micro"),


# Both files or neither.
use rule publish as publish_micro with:
    input:
        staged="intermediate/staged/{name}.cc",
        beside="intermediate/staged/{name}.cc.h",
        report="reports/{name}.cc.json",
    output:
        target="converted/{name}.cc",
        beside="converted/{name}.h",


ruleorder: publish_micro > publish


if planned.elsewhere_pattern("cc"):

    use rule publish as publish_micro_elsewhere with:
        input:
            staged=planned.staged_as("cc"),
            beside=planned.beside_as("cc"),
            report=planned.report_as("cc"),
        output:
            target="{path}.cc",
            beside="{path}.h",
        log:
            "logs/elsewhere_{path}.publish.log",
        wildcard_constraints:
            path=planned.elsewhere_pattern("cc"),

    ruleorder: publish_micro_elsewhere > publish_elsewhere
