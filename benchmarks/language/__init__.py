"""Language hybrids beside other runtimes, with the same weights."""
