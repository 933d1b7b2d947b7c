"""The documentation, held against the code: its blocks run, its names exist."""
