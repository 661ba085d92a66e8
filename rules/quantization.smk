# What quantization costs: layer by layer, and one page that compares a model's quantized files.


rule quantization_layers:
    """reports/MODEL.int8.layers.json: what quantization costs each layer of a TensorFlow Lite file, what to keep in float."""
    input:
        hub=planned.layers_hub,
    output:
        "reports/{name}.layers.json",
    log:
        "logs/{name}.layers.log",
    wildcard_constraints:
        name=planned.without_extension(),
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=planned.layers_memory,
    params:
        target=planned.layers_target,
        options=planned.layers_options,
        data=planned.layers_data,
        code=planned.layers_code,
        versions=planned.export_versions,
    message:
        "rank the layers of {wildcards.name}"
    shell:
        "{resources.program} quantization_layers {params.options} --target={params.target} -- {input.hub:q} {output:q} 2> {log:q}"


rule quantization_page:
    """reports/MODEL.quantization.html: size, latency and accuracy of a model's quantized files, on one page; TensorFlow Lite."""
    input:
        hub=planned.page_hub,
    output:
        "reports/{name}.quantization.html",
    log:
        "logs/{name}.quantization.log",
    wildcard_constraints:
        name=planned.without_extension(),
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=planned.page_memory,
    params:
        target=planned.page_target,
        options=planned.page_options,
        blocks=planned.page_blocks,
        data=planned.page_data,
        code=planned.analysis_code("quantization_page"),
        versions=planned.page_versions,
    message:
        "compare the quantized files of {wildcards.name}"
    shell:
        "{resources.program} quantization_page {params.options} --blocks={params.blocks} --target={params.target} "
        "-- {input.hub:q} {output:q} 2> {log:q}"


use rule quantization_page as quantization_page_of with:
    # reports/MODEL.onnx.quantization.html: the same for the model's files of another format.
    output:
        "reports/{name}.{ending}.quantization.html",
    log:
        "logs/{name}.{ending}.quantization.log",
    wildcard_constraints:
        name=".+",
        ending=planned.quantized_extensions(),
