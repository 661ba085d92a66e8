"""What sources are computed in."""

from converter.formats.declarations import Framework

__all__ = ["PYTORCH", "TENSORFLOW"]

TENSORFLOW = Framework(
    name="tensorflow",
    title="TensorFlow",
    module="tensorflow",
    runner="converter.tf.runtime.run_hub:runner",
    code=("converter.tf",),
)
PYTORCH = Framework(
    name="pytorch",
    title="PyTorch",
    module="torch",
    runner="converter.torch.program.run_hub:runner",
    code=("converter.torch", "converter.torch_to_keras"),
    requirements="torch",
)
