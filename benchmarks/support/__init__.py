"""What the benchmarks share. Nothing here measures anything when it is run."""
