"""What the commands do: run, show, migrate, drill and examine a deployment."""
