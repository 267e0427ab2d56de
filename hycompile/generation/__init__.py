"""Text from a language model: its methods as a loop over tokens, sampling, and tokens as text while they come."""

from hycompile.generation.generator import Generation, Generator
from hycompile.generation.sampling import Sampling

__all__ = ["Generation", "Generator", "Sampling"]
