# Well-known models that recipes make on demand, below zoo/ (configs/zoo.yaml).


rule zoo:
    """Convert the whole zoo to ONNX and TensorFlow Lite, or the part named by zoo: {only: [...]}, and write the overview."""
    input:
        planned.zoo_targets,
        rules.overview.input,


rule zoo_keras:
    """zoo/NAME.h5: make a Keras application or recurrent model, with seeded weights or, if configured, pretrained."""
    output:
        "zoo/{model}.h5",
    log:
        "logs/zoo/{model}.log",
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=4000,
    params:
        recipe=planned.recipe_options,
        code=planned.code("zoo_keras"),
    message:
        "make {output}"
    shell:
        "{resources.program} zoo_keras {params.recipe} {output:q} 2> {log:q}"


# Where Keras (3.15) does not open its own .h5 again.
use rule zoo_keras as zoo_keras_archive with:
    output:
        "zoo/{model}.keras",


rule zoo_torchvision:
    """zoo/NAME.pt: make a torchvision model, with seeded weights or, if configured, pretrained."""
    input:
        ancient("intermediate/toolchains/torch"),
    output:
        "zoo/{model}.pt",
    log:
        "logs/zoo/{model}.log",
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=3000,
    params:
        recipe=planned.recipe_options,
        code=planned.code("zoo_torchvision"),
    message:
        "make {output}"
    shell:
        "{resources.program} zoo_torchvision {params.recipe} {output:q} 2> {log:q}"


rule zoo_recurrent_torch:
    """zoo/NAME.pt2: make a small recurrent model of PyTorch, an exported program with seeded weights."""
    input:
        ancient("intermediate/toolchains/torch"),
    output:
        "zoo/{model}.pt2",
    log:
        "logs/zoo/{model}.log",
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=1500,
    params:
        recipe=planned.recipe_options,
        code=planned.code("zoo_recurrent_torch"),
    message:
        "make {output}"
    shell:
        "{resources.program} zoo_recurrent_torch {params.recipe} {output:q} 2> {log:q}"


rule zoo_graph:
    """zoo/NAME.pb: make a frozen graph of TensorFlow 1, with seeded weights."""
    output:
        "zoo/{model}.pb",
    log:
        "logs/zoo/{model}.log",
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=3000,
    params:
        recipe=planned.recipe_options,
        code=planned.code("zoo_tf1"),
    message:
        "make {output}"
    shell:
        "{resources.program} zoo_tf1 {params.recipe} {output:q} 2> {log:q}"


rule zoo_checkpoint:
    """zoo/NAME.meta: make a checkpoint of TensorFlow 1, with seeded weights."""
    output:
        meta="zoo/{model}.meta",
        index="zoo/{model}.index",
        data="zoo/{model}.data-00000-of-00001",
    log:
        "logs/zoo/{model}.log",
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=3000,
    params:
        recipe=planned.recipe_options,
        code=planned.code("zoo_tf1"),
    message:
        "make {output.meta}"
    shell:
        "{resources.program} zoo_tf1 {params.recipe} {output.meta:q} 2> {log:q}"


rule zoo_savedmodel:
    """zoo/NAME: make a SavedModel directory, with seeded weights."""
    output:
        directory("zoo/{model}"),
    log:
        "logs/zoo/{model}.log",
    wildcard_constraints:
        model=planned.savedmodel_recipes(),
    conda:
        "../environment.yml"
    resources:
        program=session.program,
        mem_mb=3000,
    params:
        recipe=planned.recipe_options,
        code=planned.code("zoo_tf1"),
    message:
        "make {output}"
    shell:
        "{resources.program} zoo_tf1 {params.recipe} {output:q} 2> {log:q}"
