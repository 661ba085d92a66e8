# How a converted float file differs from its source within.


rule layer_differences:
    """reports/MODEL.onnx.layers.json, MODEL.tflite.layers.json: how a float file differs from its source, layer by layer."""
    input:
        hub=planned.hub,
    output:
        "reports/{name}.{extension}.layers.json",
    log:
        "logs/{name}.{extension}.layers.log",
    wildcard_constraints:
        extension=planned.any_extension(),
    conda:
        "../environment.yml"
    resources:
        mem_mb=planned.export_memory,
        runtime=planned.export_runtime,
    params:
        target=planned.target,
        options=planned.export_options,
        code=planned.analysis_code("layer_differences"),
        versions=planned.export_versions,
    message:
        "compare {wildcards.name}.{wildcards.extension} with its source, layer by layer"
    shell:
        "step layer_differences {params.options} --target={params.target} -- {input.hub:q} {output:q} 2> {log:q}"
