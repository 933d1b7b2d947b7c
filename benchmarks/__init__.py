"""
Benchmarks: pannier against bare drivers, a bare worker and its peers, in interleaved rounds on one machine.

    uv run python -m benchmarks --help

`plan` says what is measured, `roster` who takes part, `rounds` measures, `report` and `plot` show. Every sample is
taken by a process of its own (`sample`), so that nobody inherits another's garbage; a peer's in an environment of its
own.
"""
