"""Pure decisions over a snapshot of the swarm."""
