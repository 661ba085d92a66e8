# How fast converted files run: here, or on a phone (benchmark: in the configuration).


rule benchmark:
    """benchmarks/TARGET.json: run a converted file: start-up, latency, throughput, memory, and a time for each operator."""
    input:
        "converted/{name}",
    output:
        "benchmarks/{name}.json",
    log:
        "logs/benchmark/{name}.log",
    localrule: True
    conda:
        "../environment.yml"
    threads: 512  # all of this machine's: other jobs beside it would be measured with it
    resources:
        program=session.program,
    params:
        options=planned.benchmark_options,
        code=planned.code("benchmark"),
        versions=planned.versions("benchmark"),
    message:
        "measure {input}"
    shell:
        "{resources.program} benchmark {params.options} {input:q} {output:q} 2> {log:q}"


rule profile:
    """reports/profile.html: compare all files that were measured, now and in earlier runs, in tables and plots."""
    input:
        planned.profiled,
    output:
        report("reports/profile.html", caption="../workflow/report/profile.rst", category="Profile"),
    log:
        "logs/profile.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        folder=f"{session.folder}benchmarks",
        known=planned.known_benchmarks,
        code=planned.code("profile_page"),
    message:
        "write {output}"
    shell:
        "{resources.program} profile_page {params.folder:q} {output:q} 2> {log:q}"
