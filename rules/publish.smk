# The last step of every conversion: the staged file gets its final name if its report allows it.


rule publish:
    """converted/NAME: move a verified file there, or fail with the sentence that says what to change."""
    input:
        staged="intermediate/staged/{name}",
        report="reports/{name}.json",
    output:
        target="converted/{name}",
    log:
        "logs/{name}.publish.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        code=planned.code("publish"),
    message:
        "publish {output}"
    shell:
        "{resources.program} publish {input.staged:q} {input.report:q} {output.target:q} 2> {log:q}"


if planned.elsewhere_pattern():

    use rule publish as publish_elsewhere with:
        input:
            staged=planned.staged_elsewhere,
            report=planned.report_elsewhere,
        output:
            target="{path}",
        log:
            "logs/elsewhere_{path}.publish.log",
        wildcard_constraints:
            path=planned.elsewhere_pattern(),


rule refuse:
    """Note why a target cannot be planned (no source, unknown format): its report and the last line of the run say it."""
    output:
        directory("intermediate/refused/{target}"),
    log:
        "logs/{target}.refuse.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        error=planned.refusal,
    message:
        "refuse {wildcards.target}"
    shell:
        "{resources.program} refuse {params.error} {output:q} 2> {log:q}"
