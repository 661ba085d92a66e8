# Keras files: .h5 and .hdf5 of Keras 2 and 3, and .keras.


rule import_keras:
    """Read a Keras file into intermediate/: its inference graph, weights and reference outputs."""
    input:
        ancient(planned.source),
        made=planned.made_source,
    output:
        directory("intermediate/{key}"),
    log:
        "logs/import/{key}.log",
    wildcard_constraints:
        key=planned.keys_of("keras"),
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
        code=planned.code("import_keras"),
        versions=planned.versions("import_keras"),
    message:
        "read {params.source}"
    shell:
        "step import_keras {params.options} --key={params.bytes} -- {params.source} {output:q} 2> {log:q}"
