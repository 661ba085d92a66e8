# ONNX files, from every source format.


rule export_onnx:
    """Write a model that was read as ONNX and compare it with the source, in onnxruntime."""
    input:
        hub=planned.hub,
        environment=ancient(planned.backend_environment),
    output:
        staged=temp("intermediate/staged/{name}.{extension}"),
        report="reports/{name}.{extension}.json",
    log:
        "logs/{name}.{extension}.log",
    wildcard_constraints:
        extension="onnx",
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
        code=planned.export_code("export_onnx"),
        versions=planned.export_versions("export_onnx"),
    message:
        "write {wildcards.name}.{wildcards.extension}"
    shell:
        "step export_onnx {params.options} --target={params.target} --report={output.report:q} "
        "--notes={resources.notes:q} -- {input.hub:q} {output.staged:q} 2> {log:q}"
