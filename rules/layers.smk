# What happens within a converted file: how a float one differs from its source, what quantization costs another.


rule layers:
    """reports/MODEL.onnx.layers.json, MODEL.int8.onnx.layers.json: how a file differs from its source, layer by layer."""
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
        program=session.program,
        mem_mb=planned.export_memory,
        runtime=planned.export_runtime,
    params:
        step=planned.layers_step,
        target=planned.target,
        options=planned.export_options,
        data=planned.layers_data,
        code=planned.layers_code,
        versions=planned.export_versions,
    message:
        "compare {wildcards.name}.{wildcards.extension} with its source, layer by layer"
    shell:
        "{resources.program} {params.step} {params.options} --target={params.target} -- {input.hub:q} {output:q} 2> {log:q}"
