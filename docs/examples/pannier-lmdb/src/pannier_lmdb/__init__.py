"""Jobs of pannier in LMDB: one file, no server, any number of processes of one machine."""
