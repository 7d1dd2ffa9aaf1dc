"""Everything that computes: the engines, their memory, the sampler, the compute thread."""
