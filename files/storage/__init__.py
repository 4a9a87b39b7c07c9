"""The object store: what is put into it, read from it and left over in it."""
