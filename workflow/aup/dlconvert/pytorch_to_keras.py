"""PyTorch (.pt) to Keras: python -m aup.dlconvert.pytorch_to_keras -i MODEL -o FILE."""

import sys

from aup.dlconvert.one_conversion import main

if __name__ == "__main__":
    sys.exit(main("pytorch", "keras"))
