"""Which hybrids every backend builds and computes correctly, beside what the stock exporters do with them."""
