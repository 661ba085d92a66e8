"""Snakemake's input and param functions, by the rule files that they serve."""
