"""The worker's parts, one role a file. `worker` puts them together; they never look each other up."""
