"""The memory storage of pannier: `memory://`, and `memory://name` for one store per name and process."""
