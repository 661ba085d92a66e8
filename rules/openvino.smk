# OpenVINO's intermediate representation: NAME.xml with its weights NAME.bin, from every source format.


# Compared with the source in OpenVINO.
use rule export_added as export_openvino with:
    output:
        staged=temp("intermediate/staged/{name}.{extension}"),
        weights=temp("intermediate/staged/{name}.{extension}.bin"),
        report="reports/{name}.{extension}.json",
    wildcard_constraints:
        extension=planned.extensions_of("openvino"),


# Both files or neither.
use rule publish as publish_openvino with:
    input:
        staged="intermediate/staged/{name}.xml",
        beside="intermediate/staged/{name}.xml.bin",
        report="reports/{name}.xml.json",
    output:
        target="converted/{name}.xml",
        beside="converted/{name}.bin",


ruleorder: publish_openvino > publish


if planned.elsewhere_pattern("xml"):

    use rule publish as publish_openvino_elsewhere with:
        input:
            staged=planned.staged_as("xml"),
            beside=planned.beside_as("xml"),
            report=planned.report_as("xml"),
        output:
            target="{path}.xml",
            beside="{path}.bin",
        log:
            "logs/elsewhere_{path}.publish.log",
        wildcard_constraints:
            path=planned.elsewhere_pattern("xml"),

    ruleorder: publish_openvino_elsewhere > publish_elsewhere
