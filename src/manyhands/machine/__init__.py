"""What is read of the machine around us, and asked of its scheduler; knows nothing of peers."""
