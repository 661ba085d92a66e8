# What all imports share; each format's own rule file says which hubs it makes, and that they may be cached: Snakemake
# (9.27) does not pass `cache` on.


rule import_added:
    """Read a source into intermediate/: its graph, weights and reference outputs. As it is: formats of CONVERTER_FORMATS."""
    input:
        source=ancient(planned.source),
        made=planned.made_source,
        libraries=ancient(planned.source_environment),
    output:
        directory("intermediate/{key}"),
    log:
        "logs/import/{key}.log",
    wildcard_constraints:
        key=planned.keys_of(),
    cache: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=planned.import_memory,
        runtime=planned.import_runtime,
    params:
        step=planned.import_step,
        source=planned.source_path,
        options=planned.import_options,
        bytes=planned.source_version,
        code=planned.import_code,
        versions=planned.import_versions,
    message:
        "read {params.source}"
    shell:
        "{resources.program} {params.step} {params.options} --key={params.bytes} -- {params.source} {output:q} 2> {log:q}"
