# Which devices a model's files fit.


rule devices_page:
    """reports/MODEL.devices.html: the model's converted files against all device profiles, in one table."""
    input:
        planned.device_files,
    output:
        report("reports/{name}.devices.html", category="Devices"),
    log:
        "logs/{name}.devices.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        profiles=planned.device_profiles,
        code=planned.code("devices_page"),
    message:
        "write {output}"
    shell:
        "{resources.program} devices_page {wildcards.name:q} {output:q} {input:q} 2> {log:q}"
