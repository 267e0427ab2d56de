"""How much of a Core ML package only moves data: hycompile's packages beside stock conversions."""
