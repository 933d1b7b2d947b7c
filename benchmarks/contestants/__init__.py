"""Who takes part: one module each, with a function for each measure that it can be held to."""
