"""The storage of pannier that lives in memory."""
