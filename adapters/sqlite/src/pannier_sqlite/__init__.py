"""The SQLite storage of pannier: one file, many processes. `sqlite:///jobs.db`, `sqlite:////var/lib/app/jobs.db`."""
