"""Links between peers, all behind one waist (net/transport)."""
