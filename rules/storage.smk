# Sources in object storage or on the web, and targets in object storage (docs/storage.md). What could not be fetched is
# empty here (planning/storage_limits.py).

if planned.remote_sources(directories=False):

    rule fetch:
        """sources/ADDRESS: bring a source at an s3:// or http(s):// address to sources/."""
        input:
            planned.remote_source,
        output:
            "sources/{path}",
        log:
            "logs/sources/{path}.log",
        wildcard_constraints:
            path=planned.remote_sources(directories=False),
        localrule: True
        conda:
            "../environment.yml"
        params:
            version=planned.remote_version,
        message:
            "fetch {output}"
        shell:
            "test -s {input:q} && cp -- {input:q} {output:q} 2> {log:q}"


if planned.remote_sources(directories=True):

    rule fetch_directory:
        """sources/ADDRESS: bring a SavedModel directory at an s3:// address to sources/."""
        input:
            planned.remote_source,
        output:
            directory("sources/{path}"),
        log:
            "logs/sources/{path}.log",
        wildcard_constraints:
            path=planned.remote_sources(directories=True),
        localrule: True
        conda:
            "../environment.yml"
        params:
            version=planned.remote_version,
        message:
            "fetch {output}"
        shell:
            'test -n "$(ls -A {input:q})" && cp -R -- {input:q} {output:q} 2> {log:q}'


if session.planner.remote_targets:

    rule publish_remote:
        """Put a verified file to the s3:// address that its job names, or fail and say what to change."""
        input:
            staged=planned.staged_remote,
            report=planned.report_remote,
        output:
            storage("s3://{path}"),
        log:
            "logs/s3/{path}.publish.log",
        localrule: True
        conda:
            "../environment.yml"
        resources:
            program=session.program,
        params:
            target=planned.remote_target,
            code=planned.code("publish"),
        message:
            "publish {params.target}"
        shell:
            "{resources.program} publish {input.staged:q} {input.report:q} {output:q} {params.target} 2> {log:q}"
