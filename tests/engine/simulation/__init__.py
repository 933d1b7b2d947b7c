"""The engine on virtual time: one seed, one history, the engine's rules watched throughout."""
