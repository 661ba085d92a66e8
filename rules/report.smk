# What a source holds, and reports of targets that no export rule makes.


rule inspect:
    """reports/MODEL.inspect.json: what a source holds: inputs, outputs, operators, and what it can become."""
    input:
        hub=planned.inspect_hub,
    output:
        "reports/{model}.inspect.json",
    log:
        "logs/{model}.inspect.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        code=planned.code("inspect_model"),
    message:
        "inspect {wildcards.model}"
    shell:
        "{resources.program} inspect_model {input.hub:q} {output:q} 2> {log:q}"


rule report_refusal:
    """Write the report of a target of no known format."""
    input:
        hub=planned.hub,
    output:
        staged=temp("intermediate/staged/{name}"),
        report="reports/{name}.json",
    log:
        "logs/{name}.log",
    wildcard_constraints:
        name=planned.without_extension("inspect", "layers"),
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        target=planned.target,
        code=planned.code("report_refusal"),
    message:
        "report {wildcards.name}"
    shell:
        "{resources.program} report_refusal --target={params.target} --report={output.report:q} "
        "-- {input.hub:q} {output.staged:q} 2> {log:q}"
