# What became of many targets, in one table.


rule coverage:
    """reports/coverage.html, .md and .csv: the coverage table: every model and target with a report, and what became of it."""
    input:
        planned.coverage_reports,
    output:
        markdown="reports/coverage.md",
        html=report("reports/coverage.html", caption="../workflow/report/coverage.rst", category="Coverage"),
        csv="reports/coverage.csv",
    log:
        "logs/coverage.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        recipes=f"{session.root}/configs/zoo.yaml",
        known=planned.known_reports,
        code=planned.code("coverage"),
    message:
        "write {output.html}"
    shell:
        "{resources.program} coverage --recipes={params.recipes:q} {output.markdown:q} {output.html:q} {output.csv:q} 2> {log:q}"


rule model_page:
    """reports/pages/MODEL.html: one model: verification, sizes, speed if it was measured, and where everything comes from."""
    input:
        reports=planned.model_reports,
        benchmarks=planned.model_benchmarks,
    output:
        report("reports/pages/{model}.html", caption="../workflow/report/model.rst", category="Models"),
    log:
        "logs/pages/{model}.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        known=planned.known_benchmarks,
        code=planned.code("model_page"),
    message:
        "write {output}"
    shell:
        "{resources.program} model_page {wildcards.model:q} {output:q} {input.reports:q} 2> {log:q}"


rule overview:
    """The coverage table and a page for each model, of the jobs and of the zoo if asked for: what --report shows."""
    input:
        "reports/coverage.html",
        planned.model_pages,
