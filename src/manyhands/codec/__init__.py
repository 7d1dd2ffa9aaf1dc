"""Named forms of a tensor between processes: pure tensors <-> bytes."""
