"""
The contract as plain, synchronous code, and that code dressed as storages.

`model` is the specification; `provider` keeps it in memory, `ledger` in a file, `loopback` behind a TCP server.
"""
