"""What a file may hold at most."""

__all__ = ["MAX_BYTES"]

# Protobuf messages and flatbuffers count their bytes in 32 bits with a sign: 2 GB.
MAX_BYTES = 2**31 - 1
