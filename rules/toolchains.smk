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
        root=workflow.basedir,
        versions=planned.versions("import_pytorch"),
    message:
        "install PyTorch (once)"
    shell:
        "step install_toolchain {params.root:q} > {log:q} 2>&1"
