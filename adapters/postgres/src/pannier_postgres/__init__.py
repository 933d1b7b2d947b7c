"""The storage of pannier on PostgreSQL."""
