"""Background jobs for Python on the storage you already have."""
