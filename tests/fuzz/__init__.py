"""Whatever is thrown at a public entry: exact, or a clear error; the worker alive, and nothing lost."""
