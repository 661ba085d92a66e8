"""Files of integers with scales that are given: from float operators between QUANTIZE and DEQUANTIZE."""
