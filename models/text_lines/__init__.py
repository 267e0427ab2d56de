"""Rendered lines of text with the text beside them, for measuring what text recognisers read."""
