# Libraries and environments that only some sources need: installed when the first such source asks for them.


rule toolchain_torch:
    """Install PyTorch and what hangs on it, unless it is there already."""
    output:
        touch("intermediate/toolchains/torch"),
    log:
        "logs/toolchains/torch.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        root=session.root,
        versions=planned.versions("import_pytorch"),
    message:
        "install PyTorch (once)"
    shell:
        "{resources.program} install_toolchain {params.root:q} torch > {log:q} 2>&1"


rule toolchain_micro:
    """Install TensorFlow Lite Micro, in which C arrays are run, unless it is there already."""
    output:
        touch("intermediate/toolchains/micro"),
    log:
        "logs/toolchains/micro.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        root=session.root,
    message:
        "install TensorFlow Lite Micro (once)"
    shell:
        "{resources.program} install_toolchain {params.root:q} micro > {log:q} 2>&1"


rule toolchain_openvino:
    """Install OpenVINO, which writes and runs its .xml files, unless it is there already."""
    output:
        touch("intermediate/toolchains/openvino"),
    log:
        "logs/toolchains/openvino.log",
    localrule: True
    conda:
        "../environment.yml"
    resources:
        program=session.program,
    params:
        root=session.root,
    message:
        "install OpenVINO (once)"
    shell:
        "{resources.program} install_toolchain {params.root:q} openvino > {log:q} 2>&1"


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
