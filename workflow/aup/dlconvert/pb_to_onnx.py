"""Protobuf (.pb) to ONNX: python -m aup.dlconvert.pb_to_onnx -i MODEL -o FILE."""

import sys

from aup.dlconvert.one_conversion import main

if __name__ == "__main__":
    sys.exit(main("protobuf", "onnx"))
