"""The revision of the seeded weights; apart from them, so that a cached build is recognised without importing torch."""

# Raised whenever the same seed would give other weights: part of a built model's identity.
REVISION = 1
