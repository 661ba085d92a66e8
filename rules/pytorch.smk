# PyTorch files: .pt, .pth and .pt2 in; Keras files out.


rule import_pytorch:
    """Read a PyTorch file into intermediate/: its exported program and reference outputs."""
    input:
        source=ancient(planned.source),
        made=planned.made_source,
        libraries=ancient("intermediate/toolchains/torch"),
    output:
        directory("intermediate/{key}"),
    log:
        "logs/import/{key}.log",
    wildcard_constraints:
        key=planned.keys_of("pytorch"),
    cache: True
    conda:
        "../environment.yml"
    resources:
        mem_mb=planned.import_memory,
        runtime=planned.import_runtime,
    params:
        source=planned.source_path,
        options=planned.import_options,
        bytes=planned.source_version,
        code=planned.code("import_pytorch"),
        versions=planned.versions("import_pytorch"),
    message:
        "read {params.source}"
    shell:
        "step import_pytorch {params.options} --key={params.bytes} -- {params.source} {output:q} 2> {log:q}"


rule export_keras:
    """Write a PyTorch model that was read as a Keras file of ordinary layers and compare it with the source."""
    input:
        hub=planned.hub,
        environment=ancient(planned.backend_environment),
    output:
        staged=temp("intermediate/staged/{name}.{extension}"),
        report="reports/{name}.{extension}.json",
    log:
        "logs/{name}.{extension}.log",
    wildcard_constraints:
        extension="h5|hdf5|keras",
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
        code=planned.code("export_keras"),
        versions=planned.versions("export_keras"),
    message:
        "write {wildcards.name}.{wildcards.extension}"
    shell:
        "step export_keras {params.options} --target={params.target} --report={output.report:q} "
        "--notes={resources.notes:q} -- {input.hub:q} {output.staged:q} 2> {log:q}"
