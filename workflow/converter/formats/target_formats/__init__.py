"""The formats that can be written, one file for each."""
