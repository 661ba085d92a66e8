"""Protobuf (.pb) to TensorFlow Lite: python -m aup.dlconvert.pb_to_tflite -i MODEL -o FILE."""

import sys

from aup.dlconvert.one_conversion import main

if __name__ == "__main__":
    sys.exit(main("protobuf", "tflite"))
