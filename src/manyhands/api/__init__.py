"""HTTP: the interfaces people already use, and the page."""
