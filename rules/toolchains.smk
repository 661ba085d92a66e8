# Libraries that only some sources need: installed when the first such source asks for them.


rule toolchain_torch:
    """Install PyTorch and what hangs on it, unless it is there already."""
    output:
        touch("intermediate/toolchains/torch"),
    log:
        "logs/toolchains/torch.log",
    conda:
        "../environment.yml"
    params:
        requirements=os.path.join(workflow.basedir, "requirements-torch.txt"),
        constraints=os.path.join(workflow.basedir, "constraints.txt"),
    message:
        "install PyTorch (once)"
    shell:
        "python {SCRIPTS:q}/install_toolchain.py {params.requirements:q} {params.constraints:q} > {log:q} 2>&1"
