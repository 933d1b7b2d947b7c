"""The conformance suite of pannier's storages, and fixtures for users' own tests."""
