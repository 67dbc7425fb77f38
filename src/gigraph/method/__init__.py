"""The method: arrays in, arrays out. It knows no file, no table and no Snakemake."""
