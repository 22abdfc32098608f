"""tritonserver: its process, its repository, what is in its memory."""
