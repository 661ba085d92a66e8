# SavedModel directories, of TensorFlow 1.15 to today.


rule import_savedmodel:
    """Read one signature of a SavedModel into intermediate/: its graph, weights and reference outputs."""
    input:
        ancient(planned.source),
        made=planned.made_source,
    output:
        directory("intermediate/{key}"),
    log:
        "logs/import/{key}.log",
    wildcard_constraints:
        key=planned.keys_of("savedmodel"),
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
        code=planned.code("import_savedmodel"),
        versions=planned.versions("import_savedmodel"),
    message:
        "read {params.source}"
    shell:
        "step import_savedmodel {params.options} --key={params.bytes} -- {params.source} {output:q} 2> {log:q}"
