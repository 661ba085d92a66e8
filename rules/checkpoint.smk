# TensorFlow 1 checkpoints: a .meta with its .index and .data files.


rule import_checkpoint:
    """Read a checkpoint into intermediate/: its inference graph, weights and reference outputs."""
    input:
        ancient(planned.source),
        made=planned.made_source,
    output:
        directory("intermediate/{key}"),
    log:
        "logs/import/{key}.log",
    wildcard_constraints:
        key=planned.keys_of("checkpoint"),
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
        code=planned.code("import_checkpoint"),
        versions=planned.versions("import_checkpoint"),
    message:
        "read {params.source}"
    shell:
        "step import_checkpoint {params.options} --key={params.bytes} -- {params.source} {output:q} 2> {log:q}"
