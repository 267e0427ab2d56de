"""Which hybrid language models every target takes, along a prompt and 64 decodes, and what their artifacts keep."""
