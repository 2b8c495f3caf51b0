"""One file for each thing outside. A client returns facts; it does not know why it is asked."""
