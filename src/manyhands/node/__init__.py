"""The roles of a peer; the only place that joins links, engines, store and plans."""
