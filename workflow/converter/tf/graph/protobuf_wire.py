"""Numbers and tags as Protocol Buffers write them (https://protobuf.dev/programming-guides/encoding)."""

__all__ = ["tag", "varint"]


def varint(value: int) -> bytes:
    """A number of zero or more, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def tag(number: int) -> bytes:
    """What stands before the length of a length-delimited field: text, bytes, a message."""
    return varint(number << 3 | 2)
