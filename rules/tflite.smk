# TensorFlow Lite files, from every source format, quantized if wanted.


rule export_tflite:
    """Write a model that was read as TensorFlow Lite and compare it with the source, in LiteRT."""
    input:
        hub=planned.hub,
    output:
        staged=temp("intermediate/staged/{name}.{extension}"),
        report="reports/{name}.{extension}.json",
    log:
        "logs/{name}.{extension}.log",
    wildcard_constraints:
        extension="tflite",
    conda:
        "../environment.yml"
    resources:
        mem_mb=planned.export_memory,
        runtime=planned.export_runtime,
        notes=planned.notes,  # not a parameter: another note alone makes no file again
    params:
        model=planned.model_name,
        target=planned.target,
        options=planned.export_options,
        data=planned.data_version,
        code=planned.export_code("export_tflite"),
        versions=planned.export_versions("export_tflite"),
    message:
        "write {wildcards.name}.{wildcards.extension}"
    shell:
        "step export_tflite {params.options} --key={params.data:q} --target={params.target} --report={output.report:q} "
        "--notes={resources.notes:q} -- {input.hub:q} {output.staged:q} 2> {log:q}"
