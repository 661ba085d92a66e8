# Well-known models that recipes make on demand, below zoo/ (configs/zoo.yaml).


rule zoo_keras:
    """Make a Keras application or a small recurrent model, with seeded weights or, if configured, pretrained ones."""
    output:
        "zoo/{model}.h5",
    log:
        "logs/zoo/{model}.log",
    conda:
        "../environment.yml"
    resources:
        mem_mb=4000,
    params:
        recipe=planned.recipe_options,
        code=planned.code("zoo_keras"),
    message:
        "make {output}"
    shell:
        "step zoo_keras {params.recipe} {output:q} 2> {log:q}"


rule zoo_torchvision:
    """Make a torchvision model, with seeded weights or, if configured, pretrained ones."""
    input:
        ancient("intermediate/toolchains/torch"),
    output:
        "zoo/{model}.pt",
    log:
        "logs/zoo/{model}.log",
    conda:
        "../environment.yml"
    resources:
        mem_mb=3000,
    params:
        recipe=planned.recipe_options,
        code=planned.code("zoo_torchvision"),
    message:
        "make {output}"
    shell:
        "step zoo_torchvision {params.recipe} {output:q} 2> {log:q}"
