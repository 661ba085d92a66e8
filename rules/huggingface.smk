# Directories of Hugging Face and timm: config.json with safetensors or PyTorch weights.


# The exported program of the model and its reference outputs, in intermediate/.
use rule import_added as import_huggingface with:
    wildcard_constraints:
        key=planned.keys_of("huggingface"),
    cache: True
