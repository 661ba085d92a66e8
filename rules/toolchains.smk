# Libraries and environments that only some sources need: installed when the first such source asks for them.


rule toolchain_libraries:
    """Install PyTorch, TensorFlow Lite Micro or OpenVINO, with what hangs on it, unless it is there already."""
    output:
        touch("intermediate/toolchains/{libraries}"),
    log:
        "logs/toolchains/{libraries}.log",
    wildcard_constraints:
        libraries=planned.libraries(),
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        root=session.root,
        state=planned.library_state,
    message:
        "install what is needed for {wildcards.libraries} (once)"
    shell:
        "{resources.program} install_toolchain {params.root:q} {wildcards.libraries} > {log:q} 2>&1"


rule toolchain_legacy:
    """Build the isolated environment of an old framework (workflow/envs/), unless the user's cache has it already."""
    output:
        "intermediate/toolchains/{toolchain}/ready",
    log:
        "logs/toolchains/{toolchain}.log",
    wildcard_constraints:
        toolchain=r"tf2\.3|tf1\.15",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    message:
        "build the environment of toolchain {wildcards.toolchain} (once: 2.3 GB)"
    shell:
        "{resources.program} make_environment {wildcards.toolchain} {output:q} > {log:q} 2>&1"
