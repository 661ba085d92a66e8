# Frozen TensorFlow graphs: .pb, and .pbtxt in text form; as a source and as a target.


rule import_protobuf:
    """Read a frozen graph into intermediate/: its constants as weights, and reference outputs."""
    input:
        ancient(planned.source),
        made=planned.made_source,
    output:
        directory("intermediate/{key}"),
    log:
        "logs/import/{key}.log",
    wildcard_constraints:
        key=planned.keys_of("protobuf"),
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
        code=planned.code("import_protobuf"),
        versions=planned.versions("import_protobuf"),
    message:
        "read {params.source}"
    shell:
        "step import_protobuf {params.options} --key={params.bytes} -- {params.source} {output:q} 2> {log:q}"


rule export_protobuf:
    """Write a graph that was read as a .pb, frozen with its weights or with variables, and compare it with the source."""
    input:
        hub=planned.hub,
    output:
        staged=temp("intermediate/staged/{name}.{extension}"),
        report="reports/{name}.{extension}.json",
    log:
        "logs/{name}.{extension}.log",
    wildcard_constraints:
        extension="pb",
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
        code=planned.code("export_protobuf"),
        versions=planned.versions("export_protobuf"),
    message:
        "write {wildcards.name}.{wildcards.extension}"
    shell:
        "step export_protobuf {params.options} --target={params.target} --report={output.report:q} "
        "--notes={resources.notes:q} -- {input.hub:q} {output.staged:q} 2> {log:q}"
