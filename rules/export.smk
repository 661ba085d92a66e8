# What all exports share; each format's own rule file says which files it makes.


rule export_added:
    """Write a model that was read and compare it with the source, in a runtime. As it is: formats of CONVERTER_FORMATS."""
    input:
        hub=planned.hub,
        environment=ancient(planned.export_environment),
    output:
        staged=temp("intermediate/staged/{name}.{extension}"),
        report="reports/{name}.{extension}.json",
    log:
        "logs/{name}.{extension}.log",
    wildcard_constraints:
        extension=planned.extensions_of(),
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=planned.export_memory,
        runtime=planned.export_runtime,
        notes=planned.notes,  # not a parameter: another note alone makes no file again
    params:
        step=planned.export_step,
        model=planned.model_name,
        target=planned.target,
        options=planned.export_options,
        data=planned.data_version,
        code=planned.export_code,
        versions=planned.export_versions,
    message:
        "write {wildcards.name}.{wildcards.extension}"
    shell:
        "{resources.program} {params.step} {params.options} --key={params.data:q} --target={params.target} --report={output.report:q} "
        "--notes={resources.notes:q} -- {input.hub:q} {output.staged:q} 2> {log:q}"
