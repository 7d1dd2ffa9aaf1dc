"""The protocol between two peers without sockets: frames, messages, a connection's life."""
