# What became of many targets, in one table.


rule coverage:
    """The coverage table, as Markdown and as a page: every model and target with a report, and what became of it."""
    input:
        planned.coverage_reports,
    output:
        markdown="reports/coverage.md",
        html="reports/coverage.html",
    log:
        "logs/coverage.log",
    localrule: True
    conda:
        "../environment.yml"
    params:
        recipes=os.path.join(workflow.basedir, "configs", "zoo.yaml"),
        known=planned.known_reports,
        code=planned.code("coverage"),
    message:
        "write {output.html}"
    shell:
        "step coverage --recipes={params.recipes:q} {output.markdown:q} {output.html:q} 2> {log:q}"
