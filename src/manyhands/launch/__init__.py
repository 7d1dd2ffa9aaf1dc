"""Who starts peers on machines, and ends them."""
