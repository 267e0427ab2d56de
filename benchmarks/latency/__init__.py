"""How fast hycompile's artifacts run, and how long they take to build, beside what users would pick instead."""
